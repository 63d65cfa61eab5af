"""Independent subnet training: assign the axes of a network afresh, train the subnets alone.

Yuan et al., *Distributed Learning of Fully Connected Neural Networks using Independent Subnet
Training*, arXiv:1910.02120.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import NoReturn

import torch
from torch import Generator

from moiety.core.axes import read_axis_lengths
from moiety.core.errors import UnknownNameError
from moiety.core.protocols import Method, skip_calibration
from moiety.core.streams import stream
from moiety.methods.demo import Demo, make_similar_workers
from moiety.methods.fedavg import fedavg
from moiety.methods.task import Task
from moiety.models.normed import normed
from moiety.split.assigned import (
    Assigned,
    Assignment,
    Bernoulli,
    CategoricalAssignment,
    Chunk,
    Quota,
    RoundRobin,
    Stratified,
)

FAIR_ASSIGNMENTS: Mapping[str, Callable[[], Assignment]] = {
    "round_robin": RoundRobin,
    "chunk": Chunk,
    "stratified": Stratified,
    "categorical": CategoricalAssignment,
}
"""Assignments whose subnets are fair shares, by name."""

KEEPING_ASSIGNMENTS: Mapping[str, Callable[[float], Assignment]] = {
    "quota": Quota,
    "bernoulli": lambda keep: Bernoulli(keep or 0.5),
}
"""Assignments that are told the share of an axis in a subnet."""


def choose_assignment(name: str, keep: float) -> Assignment:
    """Choose how an axis is assigned."""
    if name in KEEPING_ASSIGNMENTS:
        return KEEPING_ASSIGNMENTS[name](keep)
    if name not in FAIR_ASSIGNMENTS:
        raise UnknownNameError(
            f"ist.assignment={name!r}; choose one of {(*FAIR_ASSIGNMENTS, *KEEPING_ASSIGNMENTS)}"
        )
    if keep:
        raise ValueError(
            f"ist.keep={keep}, but ist.assignment={name!r} gives fair shares; leave keep at 0, or "
            "choose one of "
            f"{tuple(KEEPING_ASSIGNMENTS)}"
        )
    return FAIR_ASSIGNMENTS[name]()


def ist(
    task: Task,
    *,
    assignment: str = "round_robin",
    keep: float = 0.0,
    shared: tuple[str, ...] = (),
    fresh: bool = True,
    calibrate: bool = True,
) -> Method:
    """Give each worker a disjoint subnet of the units of every layer, another one each round.

    Args:
        task: what is to be learnt; the axes of its model are assigned.
        assignment: ``round_robin``, ``chunk``, ``stratified``, ``quota``, ``bernoulli`` or
            ``categorical``.
        keep: share of an axis in a subnet, for ``quota`` and ``bernoulli`` alone (0: a fair share,
            and one half).
        shared: patterns of axes that are not assigned, but whole at every worker and averaged.
        fresh: assign anew each round; without, the subnets of the first round stay (an ablation).
        calibrate: make the whole good for use (statistics of norms, scale of branches); without,
            it is used as it was merged.
    """
    assignments = dict.fromkeys(choose_axes(task, shared), choose_assignment(assignment, keep))
    return make_subnet_method(task, "ist", assignments, fresh=fresh, calibrate=calibrate)


def match_axes(axes: Collection[str], patterns: Sequence[str], option: str) -> list[str]:
    """Name the axes that fit some patterns.

    Args:
        axes: of a model.
        patterns: each must fit one of them at least.
        option: where the patterns come from, for the message.

    Raises:
        ValueError: for the first pattern that fits none.

    >>> match_axes(["h1", "h2", "c1"], ["h*"], "shared")
    ['h1', 'h2']
    """
    for pattern in patterns:
        if not any(fnmatchcase(axis, pattern) for axis in axes):
            raise ValueError(
                f"{option}: no axis fits {pattern!r}: the model has the axes {sorted(axes)}; name "
                "one of these, or leave it out"
            )
    return [axis for axis in axes if any(fnmatchcase(axis, pattern) for pattern in patterns)]


def choose_axes(task: Task, shared: Sequence[str] = ()) -> list[str]:
    """Name the axes of a task's model that are to be assigned.

    Raises:
        ValueError: if none is left, or a pattern fits none.
    """
    sizes = read_axis_lengths(task.model.params, task.model.axes)
    whole = match_axes(sizes, shared, "shared") if sizes else []
    axes = [axis for axis in sizes if axis not in whole]
    if not axes:
        raise ValueError(
            f"nothing to assign: the model has the axes {sorted(sizes)}, shared={tuple(shared)}; "
            "use a model with named axes (moiety list names them), or share fewer"
        )
    return axes


def make_subnet_method(
    task: Task,
    name: str,
    assignments: Mapping[str, Assignment],
    *,
    fresh: bool = True,
    calibrate: bool = True,
) -> Method:
    """Make a method of this family: some axes assigned, each in its way, the others shared.

    Raises:
        ValueError: for an axis that cannot be assigned to the workers, for memory that stays, and
            where branches are to be scaled by a share that nobody knows.
    """
    sizes = read_axis_lengths(task.model.params, task.model.axes)
    check_assignments(task, name, assignments, sizes)
    held: Mapping[str, float] = UnknownShares(name)
    if task.workers:
        held = {axis: how.share(sizes[axis], task.workers) for axis, how in assignments.items()}
    elif calibrate and assignments:
        task.make_calibration(held)(task.model.params, None)  # refused here, not after training
    return replace(
        fedavg(task),
        name=name,
        split=Assigned(
            {axis: sizes[axis] for axis in assignments}, assignments, None if fresh else task.seed
        ),
        calibrate=task.make_calibration(held) if calibrate else skip_calibration,
    )


@dataclass(frozen=True)
class UnknownShares(Mapping[str, float]):
    """The shares of subnets where nobody said how many there are; a model that needs them fails."""

    method: str

    def refuse(self) -> NoReturn:
        """Say what is lacking."""
        raise ValueError(
            f"{self.method} scales branches of this model by the share that a worker holds, but "
            "Task.workers is 0; say how many work in a round (Task(..., workers=4)), or switch "
            "scaling off (calibrate=False; scale=1.0 of resist and loft)"
        )

    def __getitem__(self, axis: str, /) -> float:
        self.refuse()

    def __iter__(self) -> Iterator[str]:
        self.refuse()

    def __len__(self) -> int:
        self.refuse()


def check_assignments(
    task: Task, name: str, assignments: Mapping[str, Assignment], sizes: Mapping[str, int]
) -> None:
    """Refuse, before anything runs, what the first round would."""
    if assignments and task.local.optimizer_state == "keep":
        raise ValueError(
            f"local.optimizer_state='keep' keeps optimiser memory of the whole at a "
            f"worker, but {name} assigns {sorted(assignments)}, another part each round; use "
            "local.optimizer_state='reset' or 'send'"
        )
    for axis, how in assignments.items() if task.workers else ():
        try:
            with torch.device("cpu"):  # subnets have numbers, also where all else has shapes alone
                how(sizes[axis], task.workers, stream(task.seed, "check", axis))
        except ValueError as error:
            raise ValueError(f"axis {axis!r}: {error}") from error


def demo(rng: Generator) -> Demo:
    """Learn blobs of which workers have rows alike, with two hidden layers assigned to all."""
    task, data = make_similar_workers(rng)
    model = normed((8, 96, 96, 6), stream(0, "net"))
    local = replace(task.local, batch=32)
    return Demo(ist(replace(task, model=model, local=local, workers=len(data))), data)
