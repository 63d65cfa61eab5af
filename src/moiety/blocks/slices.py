"""How pieces travel between the owners of blocks and workers, and how owners fold them.

All ranks know all subnets, so no index is sent. Every function here is called by all ranks alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from moiety.blocks.shards import Shards
from moiety.core.axes import Part
from moiety.core.fold import Precision, Total, divide_sums, fold_piece

AT_ONCE, STRIPES = 1 << 13, 64
"""Numbers of a block that are folded at once, and into how many stripes a large block is cut: sums
and masses need a few times as much as a stripe."""

Cut = Mapping[int, Tensor]
"""Dim -> positions along it, int64."""


@dataclass(frozen=True)
class Slice:
    """Where a worker's piece meets a rank's block.

    Args:
        cut: dim of the block -> positions in the block, other dims -> positions in the whole.
        place: where along the dim of the block these lie in the piece.
        shape: of the slice.
    """

    cut: Cut
    place: Tensor
    shape: tuple[int, ...]


def find_held(shards: Shards, name: str, part: Part) -> dict[int, Tensor]:
    """Give the indices that a part holds of a parameter, by the dims that it cuts."""
    found = {}
    for dim, axis in enumerate(shards.axes.get(name, ())):
        if axis is not None and str(axis) in part.axes:
            found[dim] = part.axes[str(axis)]
    return found


def intersect_block(shards: Shards, name: str, part: Part, rank: int) -> Slice:
    """Find where a part meets the block of a rank."""
    dim, own = shards.form.dim(name), shards.block(name, rank)
    assert dim is not None
    shape = list(shards.model.params[name].shape)
    cut = find_held(shards, name, part)
    kept = cut.get(dim, torch.arange(shape[dim]))
    inside = (kept >= own.start) & (kept < own.stop)
    cut[dim] = kept[inside] - own.start
    for d, index in cut.items():
        shape[d] = len(index)
    return Slice(cut, inside.nonzero()[:, 0], tuple(shape))


def index_product(tensor: Tensor, cut: Cut) -> tuple[Tensor | slice, ...]:
    """Name a product of positions, so that ``tensor[pick(...)]`` is one copy and can be set."""
    found: list[Tensor | slice] = [slice(None)] * tensor.ndim
    dims = sorted(cut)
    assert dims == list(range(dims[0], dims[0] + len(dims))), "torch keeps only neighbours in place"
    for place, dim in enumerate(dims):
        found[dim] = cut[dim].reshape([-1 if p == place else 1 for p in range(len(dims))])
    return tuple(found)


def cut_slice(tensor: Tensor, cut: Cut) -> Tensor:
    """Cut a slice out of a block, by one copy."""
    if len(cut) == 1:
        ((dim, kept),) = cut.items()
        return tensor.index_select(dim, kept)
    return tensor[index_product(tensor, cut)]


def send_slices(shards: Shards, name: str, block: Tensor, parts: Sequence[Part]) -> Tensor:
    """Send every worker's rank its slices of a tensor; our worker's piece of it comes back.

    Args:
        shards: the blocks.
        name: of the parameter that the tensor belongs to.
        block: ours.
        parts: one for each rank, with no indices where a rank has no worker.
    """
    ranks, dim = shards.ranks, shards.dim(name, block)
    if dim is None:
        return block.clone()
    mine = [intersect_block(shards, name, parts[ranks.rank], rank) for rank in range(ranks.size)]
    sizes = [torch.Size(one.shape).numel() for one in mine]
    cuts = [intersect_block(shards, name, part, ranks.rank).cut for part in parts]
    boxes = ranks.all_to_all([cut_slice(block, cut).flatten() for cut in cuts], sizes)
    shape = list(mine[0].shape)
    shape[dim] = sum(one.shape[dim] for one in mine)
    piece = torch.empty(shape)
    for one, box in zip(mine, boxes, strict=True):
        piece.index_copy_(dim, one.place, box.view(one.shape))
    return piece


def return_slices(
    shards: Shards, name: str, parts: Sequence[Part], piece: Tensor
) -> list[tuple[Slice, Tensor]]:
    """Send trained slices to their owners; what came to us, one from each rank."""
    ranks, dim = shards.ranks, shards.dim(name, piece)
    if dim is None:
        sizes = [piece.numel()] * ranks.size
        whole = Slice({}, torch.empty(0), tuple(piece.shape))
        return [(whole, box.view(piece.shape)) for box in ranks.gather_flat(piece.flatten(), sizes)]
    mine = [intersect_block(shards, name, parts[ranks.rank], rank) for rank in range(ranks.size)]
    flat = [piece.index_select(dim, one.place).flatten() for one in mine]
    del piece  # or it would be held twice while it travels
    theirs = [intersect_block(shards, name, part, ranks.rank) for part in parts]
    boxes = ranks.all_to_all(flat, [torch.Size(one.shape).numel() for one in theirs])
    return [(one, box.view(one.shape)) for one, box in zip(theirs, boxes, strict=True)]


def fold_slices(block: Tensor, came: Sequence[tuple[Slice, Tensor]], dim: int | None) -> None:
    """Put the mean over holders into a block, in place, some of its indices at a time."""
    if dim is None:
        return fold_whole(block, came)
    entries = tuple(f"d{d}" for d in range(block.ndim))
    some = max(AT_ONCE, block.numel() // STRIPES)
    stride = max(1, some * block.shape[dim] // max(1, block.numel()))
    for begin in range(0, block.shape[dim], stride):
        old = block.narrow(dim, begin, min(stride, block.shape[dim] - begin))
        total = Total()
        for one, tensor in came:
            kept = one.cut[dim]
            inside = ((kept >= begin) & (kept < begin + old.shape[dim])).nonzero()[:, 0]
            axes = {f"d{d}": index for d, index in one.cut.items()}
            axes[f"d{dim}"] = kept[inside] - begin
            part = {"t": tensor.index_select(dim, inside)}
            fold_piece(total, {"t": old}, {"t": entries}, Part(axes), part, Precision())
        old.copy_(divide_sums(total, {"t": old})[0]["t"])
    return None


def fold_whole(tensor: Tensor, came: Sequence[tuple[Slice, Tensor]]) -> None:
    """Put the mean of all that came into a tensor that every rank has whole, in place."""
    total = Total()
    for _, one in came:
        fold_piece(total, {"t": tensor}, {}, Part(), {"t": one}, Precision())
    tensor.copy_(divide_sums(total, {"t": tensor})[0]["t"])
