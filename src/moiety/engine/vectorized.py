"""Workers of equal shape stacked into one batch: the simulator for small parts and for GPUs.

Letters: W workers, T steps, B rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from moiety.core.errors import WorkerError
from moiety.core.rows import OpenRows, Rows, TableRows, is_rowwise
from moiety.core.solver import Descent, Solve
from moiety.core.state import Job, Plan, Reply
from moiety.core.transfers import Transfers
from moiety.core.types import Batch, Carry, Memory, Params
from moiety.engine.batches import read_stacked_batches
from moiety.engine.work import (
    compute_gradient,
    make_reply,
    run_job,
    run_steps,
    sum_statistics,
    summarize_losses,
    use_one_thread,
)


@dataclass(frozen=True)
class StackedJob:
    """All that one worker of a group needs."""

    job: Job
    rows: Rows
    plan: Plan
    carry: Carry


def map_nested(function: Callable[..., Any], *trees: Any) -> Any:
    """Apply a function to the tensors of mappings nested alike."""
    if isinstance(trees[0], Tensor):  # asked first: an abstract Mapping is slow to recognise
        return function(*trees)
    return {key: map_nested(function, *[tree[key] for tree in trees]) for key in trees[0]}


def stack_tensors(*tensors: Tensor) -> Tensor:
    """Stack tensors."""
    return torch.stack(tensors)


def describe_shapes(tree: Any) -> Any:
    """Describe mappings nested at will by names, shapes and types, hashably."""
    return tuple(
        [
            (key, value.shape, value.dtype)
            if isinstance(value, Tensor)
            else (key, describe_shapes(value) if value else ())
            for key, value in tree.items()
        ]
    )


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
        transfers: none.
    """

    open: OpenRows
    memory: MutableMapping[int, Memory] = field(default_factory=dict)
    most: int = 256
    transfers: Transfers = field(default_factory=Transfers)

    def map(self, solve: Solve, jobs: Iterable[Job], /) -> Iterator[Reply]:
        jobs = iter(jobs)
        with use_one_thread():
            if not isinstance(solve, Descent) or not solve.stackable:
                yield from (self.run_alone(solve, job) for job in jobs)
                return
            while window := list(islice(jobs, self.most)):
                done = self.window(solve, window)
                yield from (done[place] for place in range(len(window)))

    def close(self) -> None:
        """Hold nothing open."""

    def window(self, solve: Descent, jobs: Sequence[Job]) -> dict[int, Reply]:
        """Run some jobs; replies by place."""
        done: dict[int, Reply] = {}
        groups: dict[Any, list[tuple[int, StackedJob]]] = {}
        forms: dict[int, Any] = {}
        for place, job in enumerate(jobs):
            stacked = self.start_job(solve, job)
            if stacked is None:
                done[place] = self.run_alone(solve, job)
            else:
                key = stack_key(stacked, forms, uses_batch_statistics=solve.uses_batch_statistics)
                groups.setdefault(key, []).append((place, stacked))
        for group in groups.values():
            group.sort(key=lambda item: -item[1].plan.steps)
            stack = [stacked for _, stacked in group]
            try:
                carries, losses = run_stack(solve, stack)
            except Exception as error:
                raise self.find_failed(solve, stack) from error
            for (place, stacked), carry, told in zip(group, carries, losses, strict=True):
                done[place] = self.finish_job(solve, stacked, carry, told[: stacked.plan.steps])
        return done

    def start_job(self, solve: Descent, job: Job) -> StackedJob | None:
        """Open a worker's rows and plan; None if it cannot be stacked."""
        rows = self.open(job.worker)
        if rows.size and not is_rowwise(rows):
            return None
        try:
            plan = solve.plan(rows.size, job)
            carry = solve.start(job, self.memory.get(job.worker, {}))
        except ValueError as error:
            raise WorkerError(job.worker, job.round, None, str(error)) from error
        return StackedJob(job, rows, plan, carry) if plan.steps else None

    def find_failed(self, solve: Descent, stack: Sequence[StackedJob]) -> Exception:
        """Find the worker for which a stack failed, by running its workers one by one."""
        for stacked in stack:
            try:
                run_job(
                    solve,
                    stacked.job,
                    stacked.rows,
                    self.memory.get(stacked.job.worker, {}),
                    run_steps,
                )
            except WorkerError as error:
                return error
        return RuntimeError(
            f"workers {[stacked.job.worker for stacked in stack]} run one by one but not stacked; "
            "use engine='serial' or engine='pool'"
        )

    def run_alone(self, solve: Solve, job: Job) -> Reply:
        """Run a job that is not stacked."""
        kept = self.memory.get(job.worker, {})
        reply, after = run_job(solve, job, self.open(job.worker), kept, run_steps)
        if after:
            self.memory[job.worker] = after
        return reply

    def finish_job(
        self, solve: Descent, stacked: StackedJob, carry: Carry, losses: Sequence[float]
    ) -> Reply:
        """Finish one worker of a stack."""
        job = stacked.job
        record = summarize_losses(job, stacked.rows.size, losses)
        statistics = (
            sum_statistics(solve, carry, stacked.rows, job.share.role)
            if solve.needs_statistics
            else {}
        )
        update = solve.finish(job, stacked.plan, carry, statistics)
        if update.memory:
            self.memory[job.worker] = update.memory
        return make_reply(job, update, record)


def stack_key(stacked: StackedJob, forms: dict[int, Any], *, uses_batch_statistics: bool) -> Any:
    """Say what must be equal for two workers to be stacked.

    Args:
        stacked: the worker.
        forms: rows already described, by the table they lie in.
        uses_batch_statistics: whether rows of a batch see each other, so that batch sizes must be
            equal too.
    """
    place = id(stacked.rows.table if isinstance(stacked.rows, TableRows) else stacked.rows)
    if place not in forms:
        forms[place] = describe_shapes(stacked.rows.take(torch.zeros(1, dtype=torch.long)))
    key = (stacked.job.share.role, describe_shapes(stacked.carry), forms[place])
    return (*key, stacked.plan.weights.numpy().tobytes()) if uses_batch_statistics else key


def run_stack(solve: Descent, stack: Sequence[StackedJob]) -> tuple[list[Carry], list[list[float]]]:
    """Run a stack, longest plan first.

    Returns:
        The carry and the losses of every worker (zero after its last step).
    """
    role, counts = stack[0].job.share.role, [stacked.plan.steps for stacked in stack]
    carry = map_nested(stack_tensors, *(stacked.carry for stacked in stack))
    step = FusedStep(solve)
    gone: list[Carry] = []
    losses = []
    for t, (batch, rates) in enumerate(
        read_stacked_batches([(stacked.rows, stacked.plan) for stacked in stack])
    ):
        active = sum(count > t for count in counts)
        carry, left = narrow_stack(carry, active)
        gone = left + gone
        full = int((stack[0].plan.weights[t] > 0).sum()) if solve.uses_batch_statistics else None
        here = {name: column[:active, :full] for name, column in batch.items()}
        carry, loss = step(carry, here, rates[:active], role)
        losses.append(torch.nn.functional.pad(loss.detach(), (0, len(stack) - active)))
    return narrow_stack(carry, 0)[1] + gone, torch.stack(losses, 1).tolist()


def narrow_stack(carry: Carry, active: int) -> tuple[Carry, list[Carry]]:
    """Let the workers from ``active`` on leave the stack; none if all stay."""
    size = next(iter(carry["params"].values())).shape[0]
    if active == size:
        return carry, []
    gone = unstack_workers(map_nested(lambda t: t[active:], carry), size - active)
    return map_nested(lambda t: t[:active], carry), gone


def unstack_workers(tree: Any, size: int) -> list[Any]:
    """Give each of ``size`` workers its tensors of mappings nested at will."""
    if isinstance(tree, Tensor):
        return list(tree.unbind(0))
    columns = [unstack_workers(value, size) for value in tree.values()]
    if not columns:
        return [{} for _ in range(size)]
    return [dict(zip(tree, values, strict=True)) for values in zip(*columns, strict=True)]


@dataclass(frozen=True)
class FusedStep:
    """A step of a stack: one ordinary backward pass for all workers, then ``move`` of each."""

    solve: Descent

    def __call__(self, carry: Carry, batch: Batch, lr: Tensor, role: str) -> tuple[Carry, Tensor]:
        leaves = {name: t.detach().requires_grad_() for name, t in carry["params"].items()}
        grads, (loss, frozen) = compute_gradient(
            StackedLoss(self.solve), {**carry, "params": leaves}, batch, role, 1
        )
        with torch.no_grad():
            after = {**carry, "frozen": frozen}
            return torch.vmap(self.solve.move)(after, grads, lr), loss


@dataclass(frozen=True)
class StackedLoss:
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
