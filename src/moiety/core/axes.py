"""Named axes, parts, and the two functions that cut a piece out and put it back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TypeAlias

import torch
from torch import Tensor

from moiety.core.types import Params


@dataclass(frozen=True)
class Along:
    """A dim that holds ``repeat`` runs of blocks, ``block`` entries for each index of ``axis``.

    Queries, keys and values of 4 heads of width 16, fused in one matrix, are
    ``Along("head", block=16, repeat=3)``: a dim of 3 * 4 * 16.
    """

    axis: str
    block: int = 1
    repeat: int = 1


AxisEntry: TypeAlias = str | Along | None
Axes: TypeAlias = Mapping[str, tuple[AxisEntry, ...]]
"""Parameter name -> one entry per dim; a parameter that is missing lies on no axis."""


@dataclass(frozen=True)
class Part:
    """Which indices of which axes are held, and of which parameters; ``Part()`` is the whole.

    Args:
        axes: axis name -> kept indices, sorted, int64, [kept].
        names: patterns of the parameters held (``gate.*``); None holds all.
    """

    axes: Mapping[str, Tensor] = field(default_factory=dict)
    names: tuple[str, ...] | None = None

    def holds(self, name: str) -> bool:
        """Say whether this part holds (a slice of) a parameter."""
        return self.names is None or any(fnmatchcase(name, pattern) for pattern in self.names)


def expand_entry(entry: AxisEntry) -> Along | None:
    """Bring an entry into its one full form."""
    return Along(entry) if isinstance(entry, str) else entry


def find_positions(entry: Along, kept: Tensor, length: int) -> Tensor:
    """Positions, in a dim of ``length``, of the kept indices of an axis.

    >>> find_positions(Along("head", block=2, repeat=2), torch.tensor([1]), 8).tolist()
    [2, 3, 6, 7]
    """
    if entry.block == 1 and entry.repeat == 1:
        return kept
    run = length // entry.repeat
    starts = torch.arange(entry.repeat) * run
    block = torch.arange(entry.block)
    return (starts[:, None, None] + kept[None, :, None] * entry.block + block).flatten()


def find_cuts(axes: Axes, part: Part, name: str, tensor: Tensor) -> list[tuple[int, Tensor]]:
    """List each dim of a whole parameter that a part cuts, with the positions it keeps."""
    cuts: list[tuple[int, Tensor]] = []
    if not part.axes:  # most often: a whole, asked for every parameter of every worker
        return cuts
    for dim, raw in enumerate(axes.get(name, ())):
        entry = expand_entry(raw)
        if entry is not None and entry.axis in part.axes:
            kept = find_positions(entry, part.axes[entry.axis], tensor.shape[dim])
            cuts.append((dim, kept.to(tensor.device)))
    return cuts


def take_piece(params: Params, axes: Axes, part: Part) -> Params:
    """Cut the piece of a part out of the whole.

    >>> params = {"w": torch.arange(6.0).reshape(3, 2)}
    >>> take_piece(params, {"w": ("h", None)}, Part({"h": torch.tensor([0, 2])}))["w"].tolist()
    [[0.0, 1.0], [4.0, 5.0]]
    """
    piece = {}
    for name, tensor in params.items():
        if part.holds(name):
            held = tensor
            for dim, kept in find_cuts(axes, part, name, tensor):
                held = held.index_select(dim, kept)
            piece[name] = held
    return piece


def add_piece(total: Params, axes: Axes, part: Part, piece: Params) -> None:
    """Add a piece to ``total``, in place, where ``take_piece`` would have cut it: its adjoint.

    >>> total = {"w": torch.zeros(3)}
    >>> add_piece(total, {"w": ("h",)}, Part({"h": torch.tensor([0, 2])}), {"w": torch.ones(2)})
    >>> total["w"].tolist()
    [1.0, 0.0, 1.0]
    """
    for name, tensor in piece.items():
        add_at_positions(total[name], find_cuts(axes, part, name, total[name]), tensor)


def add_at_positions(whole: Tensor, where: list[tuple[int, Tensor]], tensor: Tensor) -> None:
    """Add a tensor, in place, at the positions kept of each cut dim."""
    if not where:
        whole.add_(tensor)
    elif len(where) == 1:
        whole.index_add_(where[0][0], where[0][1], tensor.to(whole.dtype))
    else:
        index: list[Tensor] = [torch.arange(size, device=whole.device) for size in whole.shape]
        for dim, kept in where:
            index[dim] = kept
        grid = torch.meshgrid(*index, indexing="ij")
        whole.index_put_(grid, tensor.to(whole.dtype), accumulate=True)


def read_axis_lengths(params: Params, axes: Axes) -> Mapping[str, int]:
    """Read the length of every axis off the parameters.

    Raises:
        ValueError: if two parameters disagree, or an entry does not fit its dim.
    """
    found: dict[str, int] = {}
    for name, entries in axes.items():
        if name not in params or len(entries) != params[name].ndim:
            shape = tuple(params[name].shape) if name in params else "no such parameter"
            raise ValueError(f"axes of {name!r} are {entries}, but its shape is {shape}")
        for size, raw in zip(params[name].shape, entries, strict=True):
            entry = expand_entry(raw)
            if entry is not None:
                count, rest = divmod(size, entry.block * entry.repeat)
                if rest or found.setdefault(entry.axis, count) != count:
                    raise ValueError(
                        f"axis {entry.axis!r} has length {found.get(entry.axis)}, but a dim of "
                        f"{name!r} has {size} entries ({entry.block=}, {entry.repeat=})"
                    )
    return found
