"""How fast this machine is, measured with the shapes of the pieces themselves.

Small matrices run at a lower rate than large ones, so a rate of the whole says little of a part.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

import torch
from torch import Tensor

from moiety.core.protocols import Method
from moiety.core.rows import Rows
from moiety.core.solver import Descent, Solve
from moiety.core.state import Job, Reply, State
from moiety.core.types import Carry, Params
from moiety.engine.batches import read_batches
from moiety.engine.work import (
    BatchSteps,
    compute_gradient,
    run_job,
    run_steps_in_place,
    use_one_thread,
)
from moiety.rounds.commit import commit_replies
from moiety.rounds.synchronous import make_jobs


def time_median(act: Callable[[], object], repeats: int = 5, warm: int = 2) -> float:
    """Time some work."""
    spent = []
    for place in range(warm + repeats):
        begun = time.perf_counter()
        act()
        if place >= warm:
            spent.append(time.perf_counter() - begun)
    return statistics.median(spent)


def time_step(solve: Descent, job: Job, rows: Rows, *, repeats: int = 9) -> float:
    """Time a local step on a piece: the gradient of its first batch, and the move.

    Args:
        solve: what the worker does.
        job: with a piece of numbers; it is not changed.
        rows: of the worker.
        repeats: steps of which the median counts.
    """
    carry = solve.start(job, {})
    params = {name: t.clone().requires_grad_() for name, t in carry["params"].items()}
    optimizer_state = {
        n: {k: t.clone() for k, t in slot.items()} for n, slot in carry["optimizer_state"].items()
    }
    carry = {**carry, "params": params, "optimizer_state": optimizer_state}
    batch, lr = next(
        read_batches(rows, solve.plan(rows.size, job), draws_noise=not solve.stackable)
    )

    def once() -> None:
        grads, _ = compute_gradient(solve, carry, batch, job.share.role)
        with torch.no_grad():
            solve.move_in_place(carry, grads, lr)

    with use_one_thread():
        return time_median(once, repeats)


def skip_steps(
    solve: Solve, carry: Carry, steps: BatchSteps, role: str
) -> tuple[Carry, Tensor | None]:
    """Read every batch of a plan and copy the piece, as an engine does, but make no step."""
    del solve, role
    params = {name: t.clone() for name, t in carry["params"].items()}
    for _ in steps:
        pass
    return {**carry, "params": params}, None


def run_first_step(
    solve: Solve, carry: Carry, steps: BatchSteps, role: str
) -> tuple[Carry, Tensor | None]:
    """Make the first step of a plan as an engine does, and read the other batches."""
    steps = iter(steps)
    found = run_steps_in_place(solve, carry, islice(steps, 1), role)
    for _ in steps:
        pass
    return found


def time_job(solve: Solve, job: Job, rows: Rows, each_s: float | None = None) -> float:
    """Time a job apart from its steps: drawing the plan, reading rows, copying the piece.

    Args:
        solve: what the worker does.
        job: with a piece of numbers.
        rows: of the worker.
        each_s: seconds of a step that follows others. The first of a job takes longer, for what it
            works on is not at hand yet; with this the rest of it counts here.
    """
    with use_one_thread():
        if each_s is None:
            return time_median(lambda: run_job(solve, job, rows, {}, skip_steps), 3, 1)
        return max(
            0.0, time_median(lambda: run_job(solve, job, rows, {}, run_first_step), 5, 1) - each_s
        )


def time_idle_round(
    method: Method,
    state: State,
    cohort: Sequence[int],
    answers: Mapping[int, Params],
    *,
    repeats: int = 3,
) -> float:
    """Time a round in which nobody trains: assigning, cutting, folding, the server's step."""

    def once() -> None:
        jobs = make_jobs(method, state, cohort, answers, 0)
        back = (
            Reply(job.worker, job.share, job.piece, optimizer_state=job.optimizer_state)
            for job in jobs
        )
        commit_replies(method, state, back)

    with use_one_thread():
        return time_median(once, repeats, 1)
