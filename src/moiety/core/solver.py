"""What a worker does with its piece, and the two ways to say how it steps."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from moiety.core.state import Job, Plan, Update
from moiety.core.types import Batch, Carry, Memory, Params

Loss = tuple[Tensor, Params]


class Solve(Protocol):
    """What a worker does with its piece; all but ``plan`` is pure and draws nothing.

    A solver that only looks has no step: its plan is empty, and ``statistics`` see every row. One
    that steps is a ``Descent``, or says its own step (``Stepping``).

    >>> import torch
    >>> from moiety.core.rows import TableRows
    >>> from moiety.core.state import Share, make_empty_plan
    >>> from moiety.engine.serial import Serial
    >>> class Mean:
    ...     stackable, needs_statistics, keeps_memory = False, True, False
    ...     def first_optimizer_state(self, params):
    ...         return {}
    ...     def plan(self, size, job):
    ...         return make_empty_plan()
    ...     def start(self, job, memory):
    ...         return {"params": job.piece}
    ...     def statistics(self, carry, batch, role):
    ...         return {"sum": batch["x"].sum(0), "rows": batch["weight"].sum()}
    ...     def finish(self, job, plan, carry, statistics):
    ...         return Update({"mean": statistics["sum"] / statistics["rows"]})
    >>> rows = TableRows({"x": torch.tensor([[1.0], [5.0]])}, torch.arange(2))
    >>> job = Job(0, 0, 7, Share(), {"mean": torch.zeros(1)})
    >>> [reply.piece["mean"].tolist() for reply in Serial({7: rows}.__getitem__).map(Mean(), [job])]
    [[3.0]]
    """

    @property
    def stackable(self) -> bool:
        """Whether steps and ``statistics`` draw no noise, so that workers may be stacked."""
        ...

    @property
    def needs_statistics(self) -> bool:
        """Whether ``statistics`` is to be summed over all rows before ``finish``."""
        ...

    @property
    def keeps_memory(self) -> bool:
        """Whether a worker keeps anything between rounds."""
        ...

    def first_optimizer_state(self, params: Params, /) -> Memory:
        """Give the first values of the optimiser's memory that travels; by section, or none."""
        ...

    def plan(self, size: int, job: Job, /) -> Plan: ...
    def start(self, job: Job, memory: Memory, /) -> Carry: ...
    def statistics(self, carry: Carry, batch: Batch, role: str, /) -> Params: ...
    def finish(self, job: Job, plan: Plan, carry: Carry, statistics: Params, /) -> Update:
        """Make the update; ``plan`` tells how many steps were made, and at which rates."""
        ...


@runtime_checkable
class Descent(Solve, Protocol):
    """A solver that steps along a gradient: the engine derives the step, and may fuse it.

    Its carry has ``params``, ``frozen`` (what is not trained) and ``optimizer_state`` (by name).
    """

    @property
    def uses_batch_statistics(self) -> bool:
        """Whether rows of a batch see each other (batch norm), so that none may be padded."""
        ...

    @property
    def needs_origin(self) -> bool:
        """Whether a step looks at the piece as it was sent, which must then be kept beside it."""
        ...

    @property
    def accumulate(self) -> int:
        """In how many pieces the gradient of a batch is added up."""
        ...

    def loss(self, params: Params, carry: Carry, batch: Batch, role: str, /) -> Loss:
        """Give the loss at ``params`` and the new values of what is not trained.

        ``batch`` has ``weight`` [B], and ``seed`` [] where noise is drawn.
        """
        ...

    def move(self, carry: Carry, grads: Params, lr: Tensor | float, /) -> Carry: ...
    def move_in_place(self, carry: Carry, grads: Params, lr: float, /) -> None: ...


@runtime_checkable
class Stepping(Solve, Protocol):
    """A solver whose step is no descent (EM): it says the step itself, and no engine fuses it."""

    def step(
        self, carry: Carry, batch: Batch, lr: Tensor | float, role: str, /
    ) -> tuple[Carry, Tensor]:
        """Make one step; ``batch`` has ``weight`` [B] and ``seed`` []."""
        ...


@runtime_checkable
class KeepsParameters(Protocol):
    """A solver with parameters that never leave the worker, and so are in no final model."""

    @property
    def own(self) -> Params:
        """Their first values."""
        ...


@runtime_checkable
class HidesLosses(Protocol):
    """A solver whose losses, which are exact, stay at the worker."""

    @property
    def hides_losses(self) -> bool: ...


@runtime_checkable
class PredictsUpdate(Protocol):
    """A solver of which it is known what it sends, though not how long it works."""

    def predict_update(self, size: int, job: Job, /) -> Update:
        """Shape the update of a worker with ``size`` rows; its numbers mean nothing."""
        ...
