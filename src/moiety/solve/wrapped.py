"""A descent that is changed in a few places: what is left out is done as before.

A wrapper is a record with up to four of these functions: it adds to what a job carries, corrects
gradients, looks at all rows afterwards, and adds to the update.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor

from moiety.core.solver import Descent, KeepsParameters, Loss
from moiety.core.state import Job, Plan, Update
from moiety.core.types import Batch, Carry, Memory, Params

ROWS = ""
"""How many rows were looked at, among sums by parameter or axis: nothing else is called so."""


@dataclass(frozen=True)
class FinishedJob:
    """A job whose steps are made: what was sent, how it was stepped, and what became of it."""

    job: Job
    plan: Plan
    carry: Carry
    statistics: Params

    def mean(self) -> Params:
        """Give the statistics as means over rows."""
        count = self.statistics[ROWS]
        return {name: total / count for name, total in self.statistics.items() if name != ROWS}


class AddToCarry(Protocol):
    """Adds to what a job carries."""

    def __call__(self, carry: Carry, job: Job, memory: Memory, /) -> Carry: ...


class CorrectGradient(Protocol):
    """Changes a gradient before the step."""

    def __call__(self, carry: Carry, grads: Params, /) -> Params: ...


class LookAtRows(Protocol):
    """Gives sums over the rows of a batch, after the last step; no gradient is kept."""

    def __call__(self, solve: Descent, carry: Carry, batch: Batch, role: str, /) -> Params: ...


class AddToUpdate(Protocol):
    """Adds to an update."""

    def __call__(self, update: Update, done: FinishedJob, /) -> Update: ...


def leave_carry(carry: Carry, job: Job, memory: Memory, /) -> Carry:
    """Carry what is carried."""
    del job, memory
    return carry


def leave_gradient(carry: Carry, grads: Params, /) -> Params:
    """Step along the gradient."""
    del carry
    return grads


def leave_update(update: Update, done: FinishedJob, /) -> Update:
    """Send what is sent."""
    del done
    return update


@dataclass(frozen=True)
class Wrapped:
    """A descent with some of its places changed.

    Args:
        inner: what is changed.
        begin: adds to the carry.
        correct: changes gradients, also of stacked workers: no loops over values.
        look: what to sum over all rows after the last step; a full pass more.
        end: adds to the update.
        keeps: whether ``end`` leaves something in the worker's memory.
        weighs: whether ``end`` says how well the worker knows its piece.
    """

    inner: Descent
    begin: AddToCarry = leave_carry
    correct: CorrectGradient = leave_gradient
    look: LookAtRows | None = None
    end: AddToUpdate = leave_update
    keeps: bool = False
    weighs: bool = False

    @property
    def stackable(self) -> bool:
        return self.inner.stackable

    @property
    def needs_statistics(self) -> bool:
        return self.look is not None or self.inner.needs_statistics

    @property
    def keeps_memory(self) -> bool:
        return self.keeps or self.inner.keeps_memory

    @property
    def own(self) -> Params:
        return self.inner.own if isinstance(self.inner, KeepsParameters) else {}

    @property
    def uses_batch_statistics(self) -> bool:
        return self.inner.uses_batch_statistics

    @property
    def needs_origin(self) -> bool:
        return self.inner.needs_origin

    @property
    def accumulate(self) -> int:
        return self.inner.accumulate

    def first_optimizer_state(self, params: Params, /) -> Memory:
        return self.inner.first_optimizer_state(params)

    def plan(self, size: int, job: Job, /) -> Plan:
        return replace(self.inner.plan(size, job), size=size)

    def start(self, job: Job, memory: Memory, /) -> Carry:
        return self.begin(self.inner.start(job, memory), job, memory)

    def loss(self, params: Params, carry: Carry, batch: Batch, role: str, /) -> Loss:
        return self.inner.loss(params, carry, batch, role)

    def move(self, carry: Carry, grads: Params, lr: Tensor | float, /) -> Carry:
        return self.inner.move(carry, self.correct(carry, grads), lr)

    def move_in_place(self, carry: Carry, grads: Params, lr: float, /) -> None:
        self.inner.move_in_place(carry, self.correct(carry, grads), lr)

    def statistics(self, carry: Carry, batch: Batch, role: str, /) -> Params:
        found = self.inner.statistics(carry, batch, role)
        if self.look is None:
            return found
        more = self.look(self.inner, carry, batch, role)
        return {**found, **more, ROWS: batch["weight"].sum()}

    def finish(self, job: Job, plan: Plan, carry: Carry, statistics: Params, /) -> Update:
        update = self.inner.finish(job, plan, carry, statistics)
        return self.end(update, FinishedJob(job, plan, carry, statistics))
