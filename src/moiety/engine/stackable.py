"""Whether a step runs with workers stacked: tried, for a module of one's own may do anything."""

from __future__ import annotations

import warnings

import torch

from moiety.core.rows import Rows
from moiety.core.solver import Descent
from moiety.core.state import Job, Plan
from moiety.core.types import Memory, Params
from moiety.engine.batches import read_batches
from moiety.engine.vectorized import StackedJob, run_stack
from moiety.engine.work import run_steps

TOLERANCE = 1e-2
"""Share by which a stacked step may differ: rounding in half precision stays below it."""


SLOW = "There is a performance drop"
"""How torch begins to say that it runs in a loop what it cannot stack (kernels of attention)."""


def take_first_step(plan: Plan) -> Plan:
    """Take the first step of a plan alone."""
    return Plan(plan.rows[:1], plan.weights[:1], plan.lr[:1], plan.seeds[:1])


def make_first_step(solve: Descent, job: Job, rows: Rows, memory: Memory) -> Params:
    """Make the first step of a job, alone; give the parameters after it.

    Raises:
        Exception: whatever the model raises on its first batch.
    """
    plan = take_first_step(solve.plan(rows.size, job))
    steps = read_batches(rows, plan, draws_noise=not solve.stackable)
    return run_steps(solve, solve.start(job, memory), steps, job.share.role)[0]["params"]


def can_stack(solve: Descent, job: Job, rows: Rows) -> bool:
    """Say whether the first step of a job runs stacked with another, with the same numbers.

    What cannot be stacked says so in many ways: a branch or a size that depends on values, a kernel
    of its own (LSTM), noise, a write in place. What torch would run in a loop is better not.

    Args:
        solve: that descends.
        job: one whose first step runs alone.
        rows: of its worker.
    """
    plan = take_first_step(solve.plan(rows.size, job))
    alone = make_first_step(solve, job, rows, {})
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", message=SLOW)
            pair = [StackedJob(job, rows, plan, solve.start(job, {})) for _ in range(2)]
            carries, _ = run_stack(solve, pair)
    except Exception:  # torch says that it cannot by errors of many types
        return False
    return all(are_close(carry["params"], alone) for carry in carries)


def are_close(found: Params, wanted: Params) -> bool:
    """Say whether parameters are equal but for rounding."""
    return all(
        torch.allclose(found[name].double(), one.double(), rtol=TOLERANCE, atol=TOLERANCE)
        for name, one in wanted.items()
    )
