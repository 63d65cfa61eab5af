"""One job, start to finish, as every engine that runs workers one by one does it."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from moiety.core.errors import WorkerError
from moiety.core.rows import OpenRows, Rows, chunk_positions, split_batch
from moiety.core.solver import Descent, HidesLosses, Solve, Stepping
from moiety.core.state import Job, Record, Reply, Update
from moiety.core.types import Batch, Carry, Memory, Params
from moiety.engine.batches import read_batches
from moiety.ops.trees import map_tree

BatchSteps = Iterator[tuple[Batch, float]]
RunSteps = Callable[[Solve, Carry, BatchSteps, str], tuple[Carry, Tensor | None]]


@contextlib.contextmanager
def use_one_thread() -> Iterator[None]:
    """Give torch one thread: workers are the parallelism, and threads of both fight."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_steps(
    solve: Solve, carry: Carry, steps: BatchSteps, role: str
) -> tuple[Carry, Tensor | None]:
    """Step through a plan, purely: the definition of right."""
    losses, step = [], None
    for batch, lr in steps:
        step = step or choose_step(solve)
        carry, loss = step(carry, batch, lr, role)
        losses.append(loss.detach())
    return carry, torch.stack(losses) if losses else None


Step = Callable[[Carry, Batch, Tensor | float, str], tuple[Carry, Tensor]]


def choose_step(solve: Solve) -> Step:
    """Say how a solver steps: along the gradient of its loss, or as it says itself.

    Raises:
        TypeError: for a solver that plans steps and says none.
    """

    def descend(carry: Carry, batch: Batch, lr: Tensor | float, role: str) -> tuple[Carry, Tensor]:
        assert isinstance(solve, Descent)
        # Ordinary autograd: torch.func differentiates some layers (group norm) by other formulas,
        # whose last bits differ.
        leaves = {name: t.detach().requires_grad_() for name, t in carry["params"].items()}
        grads, (loss, frozen) = compute_gradient(solve, {**carry, "params": leaves}, batch, role)
        return solve.move({**carry, "frozen": frozen}, grads, lr), loss

    if isinstance(solve, Descent):
        return descend
    if isinstance(solve, Stepping):
        return solve.step
    raise TypeError(
        f"{type(solve).__name__} plans steps, but is neither a Descent (loss, move, move_in_place, "
        "...) nor a Stepping (step); see moiety.core.solver"
    )


def run_steps_in_place(
    solve: Solve, carry: Carry, steps: BatchSteps, role: str
) -> tuple[Carry, Tensor | None]:
    """Step through a plan with ordinary autograd, moving a copy of the parameters in place."""
    if not isinstance(solve, Descent):
        return run_steps(solve, carry, steps, role)
    params = {name: t.clone().requires_grad_() for name, t in carry["params"].items()}
    optimizer_state = {
        n: {k: t.clone() for k, t in slot.items()} for n, slot in carry["optimizer_state"].items()
    }
    carry = {**carry, "params": params, "optimizer_state": optimizer_state}
    losses = []
    for batch, lr in steps:
        grads, loss = compute_gradient(solve, carry, batch, role)
        carry = {**carry, "frozen": loss[1]}
        with torch.no_grad():
            solve.move_in_place(carry, grads, lr)
        del grads  # or the next ones come to lie in other, colder memory
        losses.append(loss[0])
    carry = {**carry, "params": {n: t.detach() for n, t in params.items()}}
    return carry, torch.stack(losses) if losses else None


class HasLoss(Protocol):
    """What ``compute_gradient`` needs of a solver."""

    @property
    def accumulate(self) -> int: ...
    def loss(
        self, params: Params, carry: Carry, batch: Batch, role: str, /
    ) -> tuple[Tensor, Params]: ...


def compute_gradient(
    solve: HasLoss, carry: Carry, batch: Batch, role: str, dim: int = 0
) -> tuple[dict[str, Tensor], tuple[Tensor, Params]]:
    """Give gradients, loss and untrained values by autograd; ``dim`` counts the rows.

    With stacked workers the loss is one number a worker, and since workers do not see each
    other, the gradient of the sum is every worker's own.
    """
    params = carry["params"]
    grads: dict[str, Tensor] = {}
    total: Tensor | None = None
    for some in split_batch(batch, solve.accumulate, dim):
        loss, frozen = solve.loss(params, carry, some, role)
        whole = loss.sum() if loss.ndim else loss
        found = torch.autograd.grad(whole, list(params.values()), materialize_grads=True)
        slope = dict(zip(params, found, strict=True))
        grads = map_tree(torch.add, grads, slope) if grads else slope
        total = loss.detach() if total is None else total + loss.detach()
        carry = {**carry, "frozen": {name: t.detach() for name, t in frozen.items()}}
    assert total is not None
    return grads, (total, carry["frozen"])


def run_job(
    solve: Solve, job: Job, rows: Rows, memory: Memory, go: RunSteps
) -> tuple[Reply, Memory]:
    """Do one job.

    Args:
        solve: what to do.
        job: with which piece.
        rows: the worker's data.
        memory: what the worker kept.
        go: how to step through the plan.

    Returns:
        The reply, and what the worker keeps now.

    Raises:
        WorkerError: naming worker, round and step, whatever went wrong.
    """
    role, done, begun = job.share.role, 0, time.perf_counter()
    generators = read_generators()
    try:
        plan = solve.plan(rows.size, job)

        def counted() -> BatchSteps:
            nonlocal done
            for step in read_batches(rows, plan, draws_noise=not solve.stackable):
                yield step
                done += 1

        carry, losses = go(solve, solve.start(job, memory), counted(), role)
        told = [] if losses is None else losses.tolist()
        record = summarize_losses(job, rows.size, told)
        if isinstance(solve, HidesLosses) and solve.hides_losses:
            record = Record(record.steps, rows.size, model_version=job.round)
        statistics = sum_statistics(solve, carry, rows, role) if solve.needs_statistics else {}
        update = solve.finish(job, plan, carry, statistics)
        refuse_global_draws(generators)
    except WorkerError:
        raise
    except Exception as error:
        raise WorkerError(
            job.worker, job.round, done, f"{type(error).__name__}: {error}"
        ) from error
    record = replace(record, work_s=time.perf_counter() - begun)
    return make_reply(job, update, record), update.memory


def read_generators() -> list[bytes]:
    """Read where the global generators stand: nothing that is to be repeated draws from them."""
    states = [torch.get_rng_state()]
    if torch.cuda.is_initialized():
        states += torch.cuda.get_rng_state_all()
    return [state.numpy().tobytes() for state in states]


def refuse_global_draws(before: list[bytes]) -> None:
    """Refuse work in which a global generator moved on.

    Raises:
        ValueError: with the remedy.
    """
    if read_generators() != before:
        raise ValueError(
            "the model, or the rows, drew from torch's global generator, so that nobody could "
            "repeat the run; say from_module(module, draws_noise=True), which gives every step a "
            "seed of its own, and let rows draw from a generator of theirs"
        )


def open_job_rows(open_rows: OpenRows, job: Job) -> Rows:
    """Open the rows of a job's worker.

    Raises:
        WorkerError: naming the worker, whatever went wrong; so that other ranks hear of it.
    """
    try:
        return open_rows(job.worker)
    except Exception as error:
        cause = f"its rows cannot be opened: {type(error).__name__}: {error}"
        raise WorkerError(job.worker, job.round, 0, cause) from error


def make_reply(job: Job, update: Update, record: Record) -> Reply:
    """Make the reply to a job."""
    sent = update.piece, update.precision, update.answer, record, update.optimizer_state
    beside = update.beside_bytes
    return Reply(job.worker, job.share, *sent, code=update.code, beside_bytes=beside)


def summarize_losses(job: Job, size: int, losses: Sequence[float]) -> Record:
    """Sum up the losses of a job's steps.

    Raises:
        WorkerError: at the first loss that is not finite.
    """
    if not losses:
        return Record(rows=size, model_version=job.round)
    for step, value in enumerate(losses):
        if not math.isfinite(value):
            cause = f"the loss is {value}; lower the learning rate, clip gradients, or look for NaN"
            raise WorkerError(job.worker, job.round, step, cause)
    mean = sum(losses) / len(losses)
    return Record(len(losses), size, losses[0], losses[-1], mean, job.round)


def sum_statistics(solve: Solve, carry: Carry, rows: Rows, role: str) -> Params:
    """Sum a solver's statistics over all rows of a worker, 1,024 at a time."""
    total: Params = {}
    for ids in chunk_positions(rows, 1024):
        batch = rows.take(ids)
        device = next(iter(batch.values())).device
        with torch.no_grad():
            part = solve.statistics(
                carry, {**batch, "weight": torch.ones(len(ids), device=device)}, role
            )
        total = map_tree(torch.add, total, part) if total else part
    return total
