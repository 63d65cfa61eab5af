"""Subnets that pass straight from worker to worker, instead of by way of the owners of blocks.

All ranks know the subnets of the last round and of the next. What a worker held and the next round
gives to another goes straight to that one, what it still holds stays; only what nobody will hold
goes home to its owner, and only what nobody held comes from there. A tensor that is cut along one
axis travels once a round instead of twice; of one that is cut along two, ``(n - 1) / n`` times
``2 - 1 / n`` of a piece leave a rank, instead of times 2. Values are those of every other layout,
bit for bit. arXiv:1910.02120 assigns by way of owners.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from moiety.blocks.passing import Change, Crossing, pass_slabs
from moiety.blocks.shards import Sections, Shards
from moiety.blocks.slices import find_held, fold_slices, fold_whole, return_slices
from moiety.core.axes import Part, read_axis_lengths
from moiety.core.state import Share

Subnets = Sequence[Part]


def is_passable(shards: Shards, shares: Mapping[int, Share]) -> bool:
    """Say whether subnets can pass straight: a worker for each rank, every index with just one."""
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
    changes = find_changes(shards, away.parts, parts)
    for section, name, block in shards.tensors():
        if shards.dim(name, block) is None:
            piece = block.clone()
        else:
            piece = pass_tensor(shards, name, block, away.piece[section].pop(name), changes)
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
    shards: Shards, name: str, block: Tensor, piece: Tensor, changes: Mapping[str, Change]
) -> Tensor:
    """Pass a tensor on: our worker's next piece of it; its block takes what comes home."""
    ranks, dim = shards.ranks, shards.form.dim(name)
    cut = {
        d: changes[str(axis)]
        for d, axis in enumerate(shards.axes.get(name, ()))
        if str(axis) in changes
    }
    shape = list(piece.shape)
    for d, change in cut.items():
        shape[d] = int((change.after == ranks.rank).sum())
    fresh = torch.empty(shape)
    if len(cut) == 1:
        ((d, change),) = cut.items()
        pass_slabs(ranks, change, piece.movedim(d, 0), fresh.movedim(d, 0))
        return fresh
    assert dim in cut
    (across,) = (d for d in cut if d != dim)
    crossing = Crossing(ranks, shards.owners(name), cut[dim], cut[across])
    crossing.pass_on(*(one.movedim((dim, across), (0, 1)) for one in (piece, block, fresh)))
    return fresh


def find_changes(shards: Shards, before: Subnets, after: Subnets) -> dict[str, Change]:
    """Say of every index of every axis which rank's worker held it, and which one's will."""
    sizes = read_axis_lengths(shards.model.params, shards.axes)
    changes = {}
    for axis in after[0].axes:
        both = torch.empty(2, sizes[axis], dtype=torch.long)
        for holders, parts in zip(both, (before, after), strict=True):
            for rank, part in enumerate(parts):
                holders[part.axes[axis]] = rank
        changes[axis] = Change(*both)
    return changes
