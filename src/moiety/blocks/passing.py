"""One tensor passed from the workers of a round to those of the next, in one pass over its numbers.

Every index of an axis has one holder before and one after. A number whose indices had one holder
in common and have one again goes straight from the one to the other; one that no worker will hold
goes home to the rank that owns it; one that no worker held comes from there. Each parcel holds
these three, one after the other, in order of the indices of the whole, so both ends know where
a number belongs. Letters: R rows (the dim along which blocks lie), C columns, n ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from moiety.engine.ranks import Ranks


@dataclass(frozen=True)
class Change:
    """Who held and who will hold the indices of an axis, by rank: [size] each."""

    before: Tensor
    after: Tensor


def group_positions(to: Tensor, count: int) -> tuple[Tensor, ...]:
    """Give the positions of each of ``count`` values, in order.

    >>> [one.tolist() for one in group_positions(torch.tensor([1, 0, 1]), 3)]
    [[1], [0, 2], []]
    """
    sizes = torch.bincount(to, minlength=count).tolist()
    return to.argsort(stable=True).split(sizes)


def pass_slabs(ranks: Ranks, change: Change, piece: Tensor, fresh: Tensor) -> None:
    """Pass a tensor that is cut along its first dim alone: all that was held will be held.

    Args:
        ranks: who passes; rank r has the worker that held and will hold what says r.
        change: of the indices of the first dim.
        piece: what our worker held.
        fresh: is filled with what it will hold.
    """
    to = change.after[change.before == ranks.rank]
    come = change.before[change.after == ranks.rank]
    parcels = [piece[positions].flatten() for positions in group_positions(to, ranks.size)]
    places = group_positions(come, ranks.size)
    width = fresh[:1].numel() if len(fresh) else 0
    boxes = ranks.all_to_all(parcels, [len(place) * width for place in places])
    for place, box in zip(places, boxes, strict=True):
        fresh[place] = box.view(-1, *fresh.shape[1:])


@dataclass(frozen=True)
class Crossing:
    """How a tensor that is cut along two dims passes, as one rank sees it.

    Args:
        ranks: who passes.
        owners: which rank owns each row, [R]; in order.
        rows: change of the indices of the rows.
        columns: change of the indices of the columns.
    """

    ranks: Ranks
    owners: Tensor
    rows: Change
    columns: Change

    def pass_on(self, piece: Tensor, block: Tensor, fresh: Tensor) -> None:
        """Send and receive, and put each number where it belongs.

        Args:
            piece: what our worker held, [r, c, ...].
            block: what we own, [b, C, ...]; takes what comes home.
            fresh: is filled with what our worker will hold, [r', c', ...].
        """
        parcels = self.cut_parcels(piece, block)
        straight, home, new = self.find_places()
        width = torch.Size(fresh.shape[2:]).numel()
        sizes = [
            (len(r) * len(c), int(back.sum()), int(some.sum()))
            for (r, c), (_, _, back), (_, some) in zip(straight, home, new, strict=True)
        ]
        boxes = self.ranks.all_to_all(parcels, [sum(three) * width for three in sizes])
        for rank, box in enumerate(boxes):
            (r, c), (b, k, back), (slab, some) = straight[rank], home[rank], new[rank]
            went, came_back, came_new = box.view(-1, *fresh.shape[2:]).split(sizes[rank])
            fresh[r[:, None], c] = went.view(len(r), len(c), *fresh.shape[2:])
            at, of = back.nonzero().T
            block[b[at], k[of]] = came_back
            fresh[slab][some] = came_new

    def cut_parcels(self, piece: Tensor, block: Tensor) -> list[Tensor]:
        """Cut what each rank gets of our worker's piece and of our block."""
        n, mine = self.ranks.size, self.rows.before == self.ranks.rank
        rows, columns = take_change(self.rows, mine), self.held_columns(self.columns.before)
        own = take_change(self.rows, self.owners == self.ranks.rank)
        r, c = group_positions(rows.after, n), group_positions(columns.after, n)
        b, k = group_positions(own.after, n), group_positions(self.columns.after, n)
        parcels = []
        for rank, slab in enumerate(self.find_slabs(mine)):
            gone = rows.after[slab, None] != columns.after
            new = own.before[b[rank], None] != self.columns.before[k[rank]]
            straight = piece[r[rank][:, None], c[rank]]
            fetched = block[b[rank][:, None], k[rank]][new]
            parts = (straight, piece[slab][gone], fetched)
            parcels.append(torch.cat([part.flatten() for part in parts]))
        return parcels

    def find_places(self) -> tuple[list[Any], list[Any], list[Any]]:
        """Say where what comes from each rank belongs, in the order of ``cut_parcels``.

        Returns:
            Rows and columns of our next piece that come straight; rows and columns of our block,
            and which of their products come home; a slab of our next piece, and which of it is new.
        """
        n, mine = self.ranks.size, self.rows.after == self.ranks.rank
        rows, columns = take_change(self.rows, mine), self.held_columns(self.columns.after)
        own = take_change(self.rows, self.owners == self.ranks.rank)
        r, c = group_positions(rows.before, n), group_positions(columns.before, n)
        b, k = group_positions(own.before, n), group_positions(self.columns.before, n)
        home = [
            (b[rank], k[rank], own.after[b[rank], None] != self.columns.after[k[rank]])
            for rank in range(n)
        ]
        new = [(slab, rows.before[slab, None] != columns.before) for slab in self.find_slabs(mine)]
        return list(zip(r, c, strict=True)), home, new

    def held_columns(self, holders: Tensor) -> Change:
        """Give the changes of the columns that our worker holds."""
        return take_change(self.columns, holders == self.ranks.rank)

    def find_slabs(self, mine: Tensor) -> list[slice]:
        """Say which of our worker's rows each rank owns."""
        counts = torch.bincount(self.owners[mine], minlength=self.ranks.size)
        ends = counts.cumsum(0).tolist()
        return [slice(*ends_of) for ends_of in pairwise([0, *ends])]


def take_change(change: Change, mine: Tensor) -> Change:
    """Give the changes of some indices, in order."""
    return Change(change.before[mine], change.after[mine])
