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

from moiety.core.protocols import Descent, Method, Solve
from moiety.core.rows import Rows
from moiety.core.state import Job, Reply, State
from moiety.core.types import Carry, Params
from moiety.engine.batches import feed
from moiety.engine.work import Steps, gradient, one_thread, walk_in_place, work
from moiety.rounds.synchronous import commit, dispatch


def median_s(act: Callable[[], object], repeats: int = 5, warm: int = 2) -> float:
    """Time some work."""
    spent = []
    for place in range(warm + repeats):
        begun = time.perf_counter()
        act()
        if place >= warm:
            spent.append(time.perf_counter() - begun)
    return statistics.median(spent)


def step_s(solve: Descent, job: Job, rows: Rows, *, repeats: int = 9) -> float:
    """Time a local step on a piece: the gradient of its first batch, and the move.

    Args:
        solve: what the worker does.
        job: with a piece of numbers; it is not changed.
        rows: of the worker.
        repeats: steps of which the median counts.
    """
    carry = solve.start(job, {})
    params = {name: t.clone().requires_grad_() for name, t in carry["params"].items()}
    slots = {n: {k: t.clone() for k, t in slot.items()} for n, slot in carry["slots"].items()}
    carry = {**carry, "params": params, "slots": slots}
    batch, lr = next(feed(rows, solve.plan(rows.size, job), noisy=not solve.batched))

    def once() -> None:
        grads, _ = gradient(solve, carry, batch, job.share.role)
        with torch.no_grad():
            solve.move_in_place(carry, grads, lr)

    with one_thread():
        return median_s(once, repeats)


def stroll(solve: Solve, carry: Carry, steps: Steps, role: str) -> tuple[Carry, Tensor | None]:
    """Read every batch of a plan and copy the piece, as an engine does, but make no step."""
    del solve, role
    params = {name: t.clone() for name, t in carry["params"].items()}
    for _ in steps:
        pass
    return {**carry, "params": params}, None


def set_out(solve: Solve, carry: Carry, steps: Steps, role: str) -> tuple[Carry, Tensor | None]:
    """Make the first step of a plan as an engine does, and read the other batches."""
    steps = iter(steps)
    found = walk_in_place(solve, carry, islice(steps, 1), role)
    for _ in steps:
        pass
    return found


def job_s(solve: Solve, job: Job, rows: Rows, each_s: float | None = None) -> float:
    """Time a job apart from its steps: drawing the plan, reading rows, copying the piece.

    Args:
        solve: what the worker does.
        job: with a piece of numbers.
        rows: of the worker.
        each_s: seconds of a step that follows others. The first of a job takes longer, for what it
            works on is not at hand yet; with this the rest of it counts here.
    """
    with one_thread():
        if each_s is None:
            return median_s(lambda: work(solve, job, rows, {}, stroll), 3, 1)
        return max(0.0, median_s(lambda: work(solve, job, rows, {}, set_out), 5, 1) - each_s)


def idle_s(
    method: Method,
    state: State,
    roster: Sequence[int],
    hints: Mapping[int, Params],
    *,
    repeats: int = 3,
) -> float:
    """Time a round in which nobody trains: dealing, cutting, folding, the outer step."""

    def once() -> None:
        jobs = dispatch(method, state, roster, hints, 0)
        back = (Reply(job.worker, job.share, job.piece, slots=job.slots) for job in jobs)
        commit(method, state, back)

    with one_thread():
        return median_s(once, repeats, 1)
