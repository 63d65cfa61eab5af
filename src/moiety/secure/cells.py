"""Which workers hold the same coordinates: a sum is taken of each such cell by itself.

A cell is all coordinates with the same holders. So all its holders have the whole of it, and what
is said of sums of equal vectors holds of every cell, also where parts overlap differently.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from moiety.core.axes import Axes, Part, expand_entry, read_axis_lengths, take_piece
from moiety.core.types import Params


@dataclass(frozen=True)
class Cells:
    """The cells of a round.

    Args:
        holders: of each cell, sorted; nobody, of what no part holds.
        of: parameter -> the number of the cell of each coordinate; it broadcasts against it.
    """

    holders: tuple[tuple[int, ...], ...]
    of: Mapping[str, Tensor]

    def list_open(self, worker: int, least: int) -> list[int]:
        """List the cells of a worker that at least so many hold."""
        return [
            cell for cell, held in enumerate(self.holders) if worker in held and len(held) >= least
        ]


@dataclass(frozen=True)
class AxisClasses:
    """The indices of an axis, sorted by who holds them.

    Args:
        masks: of each class, one bit a worker.
        of: index of the axis -> its class.
    """

    masks: Sequence[int]
    of: Tensor


def find_cells(whole: Params, axes: Axes, holders: Mapping[int, Part]) -> Cells:
    """Find the cells of some parts.

    Args:
        whole: the parameters that are summed; only their shapes are read.
        axes: of the model.
        holders: worker -> its part.

    >>> parts = {5: Part({"h": torch.tensor([0, 1])}), 7: Part({"h": torch.tensor([1, 2])})}
    >>> cells = find_cells({"w": torch.zeros(3)}, {"w": ("h",)}, parts)
    >>> cells.holders, cells.of["w"].tolist()
    (((5,), (7,), (5, 7)), [0, 2, 1])
    """
    workers = sorted(holders)
    parts = [holders[worker] for worker in workers]
    here = {name: axes[name] for name in whole if name in axes}
    lengths = read_axis_lengths(whole, here)
    classes = {
        axis: classify_indices(axis, size, parts)
        for axis, size in lengths.items()
        if any(axis in part.axes for part in parts)
    }
    laid = {name: classify_entries(name, t, here, parts, classes) for name, t in whole.items()}
    masks = sorted({mask for table, _ in laid.values() for mask in table})
    number = {mask: place for place, mask in enumerate(masks)}
    return Cells(
        tuple(tuple(w for bit, w in enumerate(workers) if mask >> bit & 1) for mask in masks),
        {
            name: torch.tensor([number[mask] for mask in table])[where]
            for name, (table, where) in laid.items()
        },
    )


def classify_indices(axis: str, size: int, parts: Sequence[Part]) -> AxisClasses:
    """Sort the indices of an axis by who holds them; whoever does not cut it holds them all."""
    held = torch.ones(size, len(parts), dtype=torch.bool)
    for place, part in enumerate(parts):
        if axis in part.axes:
            held[:, place] = False
            held[part.axes[axis].cpu(), place] = True
    rows, of = torch.unique(held, dim=0, return_inverse=True)
    masks = [sum(1 << bit for bit, one in enumerate(row) if one) for row in rows.tolist()]
    return AxisClasses(masks, of)


def classify_entries(
    name: str,
    tensor: Tensor,
    axes: Axes,
    parts: Sequence[Part],
    classes: Mapping[str, AxisClasses],
) -> tuple[list[int], Tensor]:
    """Sort the coordinates of a parameter by who holds them.

    Returns:
        One mask of workers a class, and the class of each coordinate, which broadcasts.
    """
    all_of_it = sum(1 << bit for bit, part in enumerate(parts) if part.holds(name))
    where = torch.zeros([1] * tensor.ndim, dtype=torch.long)
    cut: list[AxisClasses] = []
    for dim, raw in enumerate(axes.get(name, ())):
        entry = expand_entry(raw)
        if entry is None or entry.axis not in classes:
            continue
        some, run = classes[entry.axis], tensor.shape[dim] // entry.repeat
        unit = torch.arange(tensor.shape[dim]) % run // entry.block
        shape = [-1 if d == dim else 1 for d in range(tensor.ndim)]
        where = where * len(some.masks) + some.of[unit].reshape(shape)
        cut.append(some)
    combined = itertools.product(*(some.masks for some in cut))
    return [reduce(int.__and__, masks, all_of_it) for masks in combined], where


@dataclass(frozen=True)
class CellLayout:
    """Where the coordinates of some tensors go: each to the vector of its cell, in one order.

    The order is that of the names, and within one that of the whole, so that all holders of a cell
    have the same.

    Args:
        cells: number of each vector, sorted.
        sizes: length of each.
        order: position in the flat tensors of each entry of the vectors; None where it is its own.
    """

    cells: tuple[int, ...]
    sizes: tuple[int, ...]
    order: Tensor | None

    def cut(self, flat: Tensor) -> dict[int, Tensor]:
        """Cut flat tensors, put one behind the other, into vectors by cell."""
        sorted_ = flat if self.order is None else flat[self.order.to(flat.device)]
        return dict(zip(self.cells, sorted_.split(self.sizes), strict=True))

    def join(self, vectors: Mapping[int, Tensor], rest: Tensor) -> Tensor:
        """Put vectors where they came from; of cells that are missing, ``rest`` stays."""
        old = self.cut(rest)
        sorted_ = torch.cat([vectors.get(cell, old[cell]) for cell in self.cells])
        if self.order is None:
            return sorted_
        return torch.empty_like(sorted_).index_copy_(0, self.order.to(sorted_.device), sorted_)


def lay_out(cells: Cells, whole: Params, axes: Axes, part: Part) -> CellLayout:
    """Lay out the piece of a part; of the whole where nothing is cut.

    Args:
        cells: of the round.
        whole: the parameters that are summed; only their shapes are read.
        axes: of the model.
        part: whose piece is laid out.
    """
    names = [name for name in sorted(whole) if part.holds(name)]
    numbers = {int(cells.of[n]) for n in names if cells.of[n].numel() == 1}
    if len(numbers) == 1 and all(cells.of[name].numel() == 1 for name in names):
        return CellLayout(tuple(numbers), (sum(whole[name].numel() for name in names),), None)
    spread = {name: cells.of[name].expand(whole[name].shape) for name in names}
    piece = take_piece(spread, axes, part)
    number = torch.cat([torch.empty(0, dtype=torch.long), *(piece[n].flatten() for n in names)])
    order = number.argsort(stable=True)
    found, counts = (
        number.unique_consecutive(return_counts=True)
        if len(number) == 0
        else (number[order].unique_consecutive(return_counts=True))
    )
    return CellLayout(tuple(found.tolist()), tuple(counts.tolist()), order)
