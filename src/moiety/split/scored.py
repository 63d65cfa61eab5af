"""Every worker drops a share of the units: at random, or by how far they moved and its speed.

Dun et al., *Efficient and Light-Weight Federated Learning via Asynchronous Distributed Dropout*,
arXiv:2210.16105.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from moiety.core.axes import Along, Axes, Part, expand_entry
from moiety.core.state import Share, State, Turn
from moiety.core.types import Params


def sum_along_axis(tensor: Tensor, dim: int, entry: Along) -> Tensor:
    """Sum the absolute values of a tensor by the index of an axis that lies on a dim, [size].

    >>> sum_along_axis(torch.tensor([[1.0, -2.0], [3.0, 4.0]]), 1, Along("h")).tolist()
    [4.0, 6.0]
    """
    rows = tensor.detach().abs().movedim(dim, 0).flatten(1) if tensor.ndim > 1 else tensor.abs()
    blocks = rows.reshape(entry.repeat, -1, entry.block, rows[0].numel())
    return blocks.double().sum((0, 2, 3))


def measure_movement(params: Params, first: Params, axes: Axes, axis: str) -> Tensor:
    """Say how far each index of an axis has moved from its first values, in the 1-norm, [size]."""
    found = [
        sum_along_axis(params[name] - first[name].to(params[name].device), dim, entry)
        for name, entries in axes.items()
        for dim, entry in enumerate(map(expand_entry, entries))
        if entry is not None and entry.axis == axis
    ]
    return torch.stack(found).sum(0).cpu()


@dataclass(frozen=True)
class Scored:
    """Drop a share of each of some axes.

    Scores are distances from the ``first`` values, which are the method's own and the same
    wherever it is built, so that nothing need be kept for a run to go on. Whoever's speed is not
    known, because no job of it was done or the run has no clock, drops at random.

    Args:
        sizes: axis -> length, of the axes that are cut.
        axes: of the model.
        first: its first values.
        drop: share of each axis that a job leaves out.
        ranked: of the workers by the virtual seconds of their last job, the faster drop the
            indices that moved most; else all drop at random.
    """

    sizes: Mapping[str, int]
    axes: Axes
    first: Params
    drop: float
    ranked: bool

    def __post_init__(self) -> None:
        if not 0 <= self.drop < 1:
            raise ValueError(f"drop={self.drop} leaves nothing; choose a share in [0, 1)")

    def __call__(self, state: State, turn: Turn, /) -> Mapping[int, Share]:
        job_seconds = state.clock.job_seconds if self.ranked else {}
        order = {
            worker: k
            for k, worker in enumerate(sorted(job_seconds, key=lambda w: (job_seconds[w], w)))
        }
        scores = {}
        if any(worker in order for worker in turn.cohort):
            scores = {
                a: measure_movement(state.params, self.first, self.axes, a) for a in self.sizes
            }
        parts = {}
        for worker in turn.cohort:
            place = order[worker] / len(order) if worker in order else None
            kept = {}
            for axis, size in self.sizes.items():
                if place is None:
                    ranks = torch.randperm(size, generator=turn.rng)
                    kept[axis] = drop_window(ranks, 0.0, self.drop)
                else:
                    ranks = scores[axis].argsort(descending=True, stable=True)
                    kept[axis] = drop_window(ranks, place, self.drop)
            parts[worker] = Share(Part(kept))
        return parts


def drop_window(ranks: Tensor, place: float, drop: float) -> Tensor:
    """Leave out of ranked indices the window that begins at a place in [0, 1); the rest, sorted.

    >>> drop_window(torch.tensor([3, 1, 0, 2]), 0.25, 0.25).tolist()
    [0, 2, 3]
    """
    size = len(ranks)
    count = min(round(drop * size), size - 1)
    begin = min(int(place * size), size - count)  # the last window is clipped to the end
    return torch.cat([ranks[:begin], ranks[begin + count :]]).sort().values
