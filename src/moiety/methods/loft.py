"""Assign filters within residual blocks to find a ticket, then prune small filters and fine-tune.

Wang, Dun, Liao, Jermaine and Kyrillidis, *LOFT: Finding Lottery Tickets through Filter-wise
Training*, arXiv:2210.16169.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator

from moiety.core.axes import Part, read_axis_lengths, take_piece
from moiety.core.protocols import Method
from moiety.core.stage import Stage
from moiety.core.state import State
from moiety.core.types import Params
from moiety.methods.demo import Demo
from moiety.methods.ist import make_subnet_method
from moiety.methods.local_sgd import local_sgd
from moiety.methods.resist import make_image_workers, scale_method
from moiety.methods.task import Task
from moiety.models.residual import FILTERS, ResidualForm
from moiety.ops.filters import compute_filter_norms, select_filters
from moiety.solve.lr_schedule import LaterRate
from moiety.split.assigned import Quota, RoundRobin


def loft(
    task: Task, *, keep: float = 0.0, scale: float = 0.0, prune: float = 0.0, tune: int = 0
) -> Method:
    """Give each worker a subnet of the filters of every residual block but those of section 1.

    A run may end with a second stage: the smallest filters of every block assigned are pruned, and
    what is left is fine-tuned by all workers whole.

    Args:
        task: what is to be learnt; its model has axes ``filters...`` (a ``resnet`` cut along
            them).
        keep: share of the filters of a block in a subnet; more than a fair share overlaps.
        scale: of the branches in use; 0 for the share of the filters in a subnet, 1 for none.
        prune: share of the filters of a block to prune after training, those of smallest norm.
        tune: rounds, the last of the run, that fine-tune after pruning.
    """
    if not 0 <= prune < 1 or bool(prune) != bool(tune):
        raise ValueError(f"{prune=}, {tune=}; prune a share below 1 and fine-tune, or do neither")
    axes = find_filter_axes(task)
    assignments = dict.fromkeys(axes, Quota(keep) if keep else RoundRobin())
    return scale_method(
        make_subnet_method(task, "loft", assignments, calibrate=not scale), task, axes, scale
    )


def find_filter_axes(task: Task) -> list[str]:
    """Name the axes of filters within blocks."""
    sizes = read_axis_lengths(task.model.params, task.model.axes)
    axes = [axis for axis in sizes if axis.startswith(FILTERS)]
    if not axes:
        raise ValueError(
            f"no filters to assign: the model has the axes {sorted(sizes)}; use a residual network "
            "cut along filters (--net resnet --resnet.cut filters)"
        )
    return axes


def make_loft_stages(
    task: Task, *, keep: float = 0.0, scale: float = 0.0, prune: float = 0.0, tune: int = 0
) -> Sequence[Stage]:
    """Make the stages of a run: assign filters, then prune and fine-tune for ``tune`` rounds."""
    first = task.rounds - tune
    if tune and first < 1:
        raise ValueError(f"{tune=} of {task.rounds} rounds leave none before pruning; tune less")
    before = replace(task, rounds=first)
    told = loft(before, keep=keep, scale=scale, prune=prune, tune=tune)
    if not tune:
        return [Stage(told, first)]
    enter = Prune(task, prune)
    return [Stage(told, first), Stage(enter.method(first, tune), tune, enter)]


@dataclass(frozen=True)
class Prune:
    """Enter a stage with a part of the filters of every block assigned.

    Args:
        task: of the whole network.
        share: of the filters of a block that go.
        small: keep the smallest instead of the largest, as the published script does.
    """

    task: Task
    share: float
    small: bool = False

    def counts(self) -> dict[str, int]:
        """Count the filters left of each axis, one at least."""
        sizes = read_axis_lengths(self.task.model.params, self.task.model.axes)
        axes = find_filter_axes(self.task)
        return {axis: max(1, sizes[axis] - int(self.share * sizes[axis])) for axis in axes}

    def __call__(self, state: State, /) -> State:
        axes = self.task.model.axes
        params = take_piece(state.params, axes, self.chosen(state.params))
        return replace(state, params=params, server={}, optimizer_state={})

    def chosen(self, params: Params) -> Part:
        """Choose the filters to keep, by the norms of the first convolutions of their blocks."""
        count, kept = self.counts(), {}
        for name, entries in self.task.model.axes.items():
            axis = entries[0] if entries else None
            if name.endswith("conv1.w") and isinstance(axis, str) and axis in count:
                kept[axis] = select_filters(
                    compute_filter_norms(params[name]), count[axis], small=self.small
                )
        return Part(kept)

    def method(self, first: int, rounds: int) -> Method:
        """Make the method that fine-tunes from round ``first`` on, with a schedule of its own."""
        model: Any = self.task.model  # every model is a record with params
        part = Part({axis: torch.arange(count) for axis, count in self.counts().items()})
        params = take_piece(model.params, model.axes, part)
        small = replace(model, params=params)
        optimizer_state = (
            "reset"
            if self.task.local.optimizer_state == "send"
            else self.task.local.optimizer_state
        )
        local = replace(self.task.local, optimizer_state=optimizer_state)
        made = local_sgd(replace(self.task, model=small, local=local, start=None, rounds=rounds))
        solve: Any = made.solve
        late = replace(solve, lr_schedule=LaterRate(solve.lr_schedule, first))
        return replace(made, name="loft", solve=late)


def demo(rng: Generator) -> Demo:
    """Learn blobs with the filters of a residual block assigned to six workers."""
    task, data = make_image_workers(rng, ResidualForm((1, 2), (8, 12)), FILTERS)
    return Demo(loft(task), data)
