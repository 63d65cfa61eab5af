"""Hands that pass straight from worker to worker, instead of by way of the owners of blocks.

All ranks know the hands of the last round and of the next. What a worker held and the next round
gives to another goes straight to that one, what it still holds stays; only what nobody will hold
goes home to its owner, and only what nobody held comes from there. A tensor that is cut along one
axis travels once a round instead of twice; of one that is cut along two, ``(n - 1) / n`` times
``2 - 1 / n`` of a piece leave a rank, instead of times 2. Values are those of every other layout,
bit for bit. arXiv:1910.02120 deals by way of owners.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from moiety.blocks.shards import Sections, Shards
from moiety.blocks.slices import (
    Cut,
    cut_slice,
    find_held,
    fold_slices,
    fold_whole,
    index_product,
    return_slices,
)
from moiety.core.axes import Part, read_axis_lengths
from moiety.core.state import Share

Subnets = Sequence[Part]


def is_passable(shards: Shards, shares: Mapping[int, Share]) -> bool:
    """Say whether hands can pass straight: a worker for each rank, every index with exactly one."""
    if len(shares) != shards.ranks.size:
        return False
    parts = [share.part for share in shares.values()]
    sizes = read_axis_lengths(shards.model.params, shards.axes)
    for axis in parts[0].axes:
        every = torch.cat([part.axes[axis] for part in parts]).sort().values
        if not torch.equal(every, torch.arange(sizes[axis])):
            return False
    return all(
        shards.form.dim(name) is None or 0 < len(find_held(shards, name, parts[0])) <= 2
        for name in shards.model.params
    )


def pass_pieces(shards: Shards, parts: Subnets) -> Sections:
    """Bring every worker's piece of the next round together.

    Args:
        shards: the blocks, and the pieces of the last round, which are given up.
        parts: of the next round.
    """
    away = shards.passed
    assert away is not None
    shards.passed, found = None, {}
    for section, name, block in shards.tensors():
        if shards.dim(name, block) is None:
            piece = block.clone()
        else:
            piece = pass_tensor(
                shards, name, block, away.piece[section].pop(name), (away.parts, parts)
            )
        found.setdefault(section, {})[name] = piece
    return found


def average_shared(shards: Shards, parts: Subnets, piece: Sections) -> Sections:
    """Average what is whole everywhere; give what stays with the workers."""
    stays: Sections = {}
    for section, name, block in shards.tensors():
        if shards.dim(name, block) is None:
            fold_whole(block, return_slices(shards, name, parts, piece[section][name]))
        else:
            stays.setdefault(section, {})[name] = piece[section][name]
    return stays


def update_blocks(shards: Shards) -> None:
    """Bring the blocks up to date; workers keep their pieces too."""
    away = shards.passed
    if away is None or away.blocks_current:
        return
    for section, name, block in shards.tensors():
        dim = shards.dim(name, block)
        if dim is not None:
            fold_slices(
                block, return_slices(shards, name, away.parts, away.piece[section][name]), dim
            )
    shards.passed = replace(away, blocks_current=True)


def pass_tensor(
    shards: Shards, name: str, block: Tensor, piece: Tensor, hands: tuple[Subnets, Subnets]
) -> Tensor:
    """Pass a tensor on: our worker's next piece of it; its block takes what comes home."""
    ranks, (before, after) = shards.ranks, hands
    me, everyone = ranks.rank, range(ranks.size)
    mine, next_mine = find_held(shards, name, before[me]), find_held(shards, name, after[me])
    shape = list(piece.shape)
    for dim, kept in next_mine.items():
        shape[dim] = len(kept)
    parcels = []
    for other in everyone:
        out = [
            cut_slice(piece, locate_in_piece(mine, box))
            for box in list_direct_transfers(shards, name, hands, me, other)
        ]
        homeward = list_returns(shards, name, hands, me, other)
        out += [cut_slice(piece, locate_in_piece(mine, box)) for box in homeward]
        fetched = list_returns(shards, name, (after, before), other, me)
        out += [cut_slice(block, locate_in_block(shards, name, me, box)) for box in fetched]
        parcels.append(torch.cat([torch.empty(0), *(one.flatten() for one in out)]))
    comes = [list(list_arrivals(shards, name, hands, other)) for other in everyone]
    sizes = [sum(count_numbers(shape, box) for box, _ in some) for some in comes]
    del piece
    boxes = ranks.all_to_all(parcels, sizes)
    fresh = torch.empty(shape)
    for some, parcel in zip(comes, boxes, strict=True):
        ends = [0]
        for box, _ in some:
            ends.append(ends[-1] + count_numbers(shape, box))
        for (box, home), (begin, end) in zip(some, pairwise(ends), strict=True):
            target = block if home else fresh
            cut = (
                locate_in_block(shards, name, me, box) if home else locate_in_piece(next_mine, box)
            )
            where = index_product(target, cut)
            target[where] = parcel[begin:end].view_as(target[where])
    return fresh


def list_arrivals(
    shards: Shards, name: str, hands: tuple[Subnets, Subnets], other: int
) -> Iterator[tuple[Cut, bool]]:
    """Name what comes to us from a rank, in order; and whether it is for our block."""
    me = shards.ranks.rank
    for box in list_direct_transfers(shards, name, hands, other, me):
        yield box, False
    for box in list_returns(shards, name, hands, other, me):
        yield box, True
    for box in list_returns(shards, name, (hands[1], hands[0]), me, other):
        yield box, False


def list_direct_transfers(
    shards: Shards, name: str, hands: tuple[Subnets, Subnets], giver: int, taker: int
) -> Iterator[Cut]:
    """Name what one worker held and another will: indices of the whole, dim by dim."""
    old, new = find_held(shards, name, hands[0][giver]), find_held(shards, name, hands[1][taker])
    yield {dim: kept[torch.isin(kept, new[dim])] for dim, kept in old.items()}


def list_returns(
    shards: Shards, name: str, hands: tuple[Subnets, Subnets], worker: int, owner: int
) -> Iterator[Cut]:
    """Name what a worker held, a rank owns and nobody will hold: products, one for each taker.

    With the hands the other way round: what a worker will hold, a rank owns and nobody held.
    """
    old, dim = find_held(shards, name, hands[0][worker]), shards.form.dim(name)
    if len(old) < 2:
        return
    assert dim in old
    (across,) = (d for d in old if d != dim)
    own = shards.block(name, owner)
    mine = old[dim][(old[dim] >= own.start) & (old[dim] < own.stop)]
    for other in hands[1]:
        new = find_held(shards, name, other)
        rows = mine[torch.isin(mine, new[dim])]
        columns = old[across][~torch.isin(old[across], new[across])]
        yield {dim: rows, across: columns}


def locate_in_piece(kept: Mapping[int, Tensor], box: Cut) -> Cut:
    """Turn indices of the whole into positions in a piece; both are sorted."""
    return {dim: torch.searchsorted(kept[dim], index) for dim, index in box.items()}


def locate_in_block(shards: Shards, name: str, rank: int, box: Cut) -> Cut:
    """Turn indices of the whole into positions in a block."""
    dim, own = shards.form.dim(name), shards.block(name, rank)
    return {d: index - own.start if d == dim else index for d, index in box.items()}


def count_numbers(shape: Sequence[int], box: Cut) -> int:
    """Count the numbers of a product, of a tensor that is not cut along its other dims."""
    return torch.Size([len(box[d]) if d in box else size for d, size in enumerate(shape)]).numel()
