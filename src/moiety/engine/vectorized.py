"""Workers of equal shape stacked into one batch: the simulator for small parts and for GPUs.

Letters: W workers, T steps, B rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from moiety.core.errors import WorkerError
from moiety.core.protocols import Descent, Solve
from moiety.core.rows import Open, Rows, TableRows, rowwise
from moiety.core.state import Job, Plan, Reply
from moiety.core.types import Batch, Carry, Memory, Params
from moiety.engine.batches import together
from moiety.engine.work import answer, describe, gradient, one_thread, tally_rows, walk, work


@dataclass(frozen=True)
class Desk:
    """All that one worker of a group needs."""

    job: Job
    rows: Rows
    plan: Plan
    carry: Carry


def nested(function: Callable[..., Any], *trees: Any) -> Any:
    """Apply a function to the tensors of mappings nested alike."""
    if isinstance(trees[0], Mapping):
        return {key: nested(function, *(tree[key] for tree in trees)) for key in trees[0]}
    return function(*trees)


def pile(*tensors: Tensor) -> Tensor:
    """Stack tensors."""
    return torch.stack(tensors)


def shapes(tree: Any) -> Any:
    """Describe mappings nested at will by names, shapes and types, hashably."""
    if isinstance(tree, Mapping):
        return tuple((key, shapes(value)) for key, value in tree.items())
    return tuple(tree.shape), tree.dtype


@dataclass
class Vectorized:
    """Run the jobs of a round as few batched programs.

    Workers whose pieces have equal shapes are stacked. Short batches are padded with rows of
    weight zero, which changes no gradient; where rows of a batch see each other, only workers
    with the same batch sizes are stacked. A worker that is done leaves the stack.

    Args:
        open: opens the rows of a worker.
        memory: what workers kept.
        most: workers in a stack.
    """

    open: Open
    memory: MutableMapping[int, Memory] = field(default_factory=dict)
    most: int = 256

    def map(self, solve: Solve, jobs: Iterable[Job], /) -> Iterator[Reply]:
        jobs = iter(jobs)
        with one_thread():
            while window := list(islice(jobs, self.most)):
                done = self.window(solve, window)
                yield from (done[place] for place in range(len(window)))

    def close(self) -> None:
        """Hold nothing open."""

    def window(self, solve: Solve, jobs: Sequence[Job]) -> dict[int, Reply]:
        """Run some jobs; replies by place."""
        done: dict[int, Reply] = {}
        groups: dict[Any, list[tuple[int, Desk]]] = {}
        forms: dict[int, Any] = {}
        couples = isinstance(solve, Descent) and solve.couples
        for place, job in enumerate(jobs):
            desk = self.sit(solve, job)
            if desk is None:
                done[place] = self.alone(solve, job)
            else:
                groups.setdefault(alike(desk, forms, couples=couples), []).append((place, desk))
        for group in groups.values():
            group.sort(key=lambda item: -item[1].plan.steps)
            desks = [desk for _, desk in group]
            try:
                carries, losses = run(solve, desks)
            except Exception as error:
                raise self.blame(solve, desks) from error
            for number, (place, desk) in enumerate(group):
                mine = losses[number, : desk.plan.steps]
                done[place] = self.rise(solve, desk, carries[number], mine)
        return done

    def sit(self, solve: Solve, job: Job) -> Desk | None:
        """Open a worker's rows and plan; None if it cannot be stacked."""
        if not solve.batched:
            return None
        rows = self.open(job.worker)
        if rows.size and not rowwise(rows):
            return None
        try:
            plan = solve.plan(rows.size, job)
            carry = solve.start(job, self.memory.get(job.worker, {}))
        except ValueError as error:
            raise WorkerError(job.worker, job.round, None, str(error)) from error
        return Desk(job, rows, plan, carry) if plan.steps else None

    def blame(self, solve: Solve, desks: Sequence[Desk]) -> Exception:
        """Find the worker for which a stack failed, by running its workers one by one."""
        for desk in desks:
            try:
                work(solve, desk.job, desk.rows, self.memory.get(desk.job.worker, {}), walk)
            except WorkerError as error:
                return error
        return RuntimeError(
            f"workers {[desk.job.worker for desk in desks]} run one by one but not stacked; use "
            "engine='serial' or engine='pool'"
        )

    def alone(self, solve: Solve, job: Job) -> Reply:
        """Run a job that is not stacked."""
        kept = self.memory.get(job.worker, {})
        reply, after = work(solve, job, self.open(job.worker), kept, walk)
        if after:
            self.memory[job.worker] = after
        return reply

    def rise(self, solve: Solve, desk: Desk, carry: Carry, losses: Tensor) -> Reply:
        """Finish one worker of a stack."""
        job = desk.job
        record = describe(job, desk.rows.size, losses)
        tally = tally_rows(solve, carry, desk.rows, job.share.role) if solve.tallies else {}
        update = solve.finish(job, carry, tally)
        if update.memory:
            self.memory[job.worker] = update.memory
        return answer(job, update, record)


def alike(desk: Desk, forms: dict[int, Any], *, couples: bool) -> Any:
    """Say what must be equal for two workers to be stacked.

    Args:
        desk: the worker.
        forms: rows already described, by the table they lie in.
        couples: whether rows of a batch see each other, so that batch sizes must be equal too.
    """
    place = id(desk.rows.table if isinstance(desk.rows, TableRows) else desk.rows)
    if place not in forms:
        forms[place] = shapes(desk.rows.take(torch.zeros(1, dtype=torch.long)))
    key = (desk.job.share.role, shapes(desk.carry), forms[place])
    return (*key, desk.plan.weights.numpy().tobytes()) if couples else key


def run(solve: Solve, desks: Sequence[Desk]) -> tuple[list[Carry], Tensor]:
    """Run a stack, longest plan first.

    Returns:
        The carry of every worker, and the losses [W, T] (zero after a worker's last step).
    """
    role, counts = desks[0].job.share.role, [desk.plan.steps for desk in desks]
    carry = nested(pile, *(desk.carry for desk in desks))
    step = stepper(solve)
    gone: list[Carry] = []
    losses = []
    couples = isinstance(solve, Descent) and solve.couples
    for t, (batch, rates) in enumerate(together([(desk.rows, desk.plan) for desk in desks])):
        active = sum(count > t for count in counts)
        carry, left = leave(carry, active)
        gone = left + gone
        full = int((desks[0].plan.weights[t] > 0).sum()) if couples else None
        here = {name: column[:active, :full] for name, column in batch.items()}
        carry, loss = step(carry, here, rates[:active], role)
        losses.append(torch.nn.functional.pad(loss.detach(), (0, len(desks) - active)))
    return leave(carry, 0)[1] + gone, torch.stack(losses, 1).cpu()


def leave(carry: Carry, active: int) -> tuple[Carry, list[Carry]]:
    """Let the workers from ``active`` on leave the stack; none if all stay."""
    size = len(next(iter(carry["params"].values())))
    if active == size:
        return carry, []
    cut = nested(lambda t: t[active:].unbind(0), carry)
    gone = [at(cut, place) for place in range(size - active)]
    return nested(lambda t: t[:active], carry), gone


def at(tree: Any, place: int) -> Any:
    """Take one worker's tensors out of unbound ones."""
    if isinstance(tree, Mapping):
        return {key: at(value, place) for key, value in tree.items()}
    return tree[place]


def stepper(solve: Solve) -> Callable[[Carry, Batch, Tensor, str], tuple[Carry, Tensor]]:
    """Choose how a stack steps: fused where the solver says what it descends on, else ``vmap``."""

    def plain(carry: Carry, batch: Batch, lr: Tensor, role: str) -> tuple[Carry, Tensor]:
        return torch.vmap(lambda c, b, r: solve.step(c, b, r, role))(carry, batch, lr)

    return Fused(solve) if isinstance(solve, Descent) else plain


@dataclass(frozen=True)
class Fused:
    """A step of a stack: one ordinary backward pass for all workers, then ``move`` of each."""

    solve: Descent

    def __call__(self, carry: Carry, batch: Batch, lr: Tensor, role: str) -> tuple[Carry, Tensor]:
        leaves = {name: t.detach().requires_grad_() for name, t in carry["params"].items()}
        grads, (loss, frozen) = gradient(
            Stack(self.solve), {**carry, "params": leaves}, batch, role, 1
        )
        with torch.no_grad():
            after = {**carry, "frozen": frozen}
            return torch.vmap(self.solve.move)(after, grads, lr), loss


@dataclass(frozen=True)
class Stack:
    """The loss of every worker of a stack, [W]."""

    solve: Descent

    @property
    def accumulate(self) -> int:
        return self.solve.accumulate

    def loss(
        self, params: Params, carry: Carry, batch: Batch, role: str, /
    ) -> tuple[Tensor, Params]:
        one = torch.vmap(lambda p, c, b: self.solve.loss(p, c, b, role))
        return one(params, carry, batch)
