"""What a method of a recipe would cost, learnt by walking one of its rounds on shapes alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from moiety.core.protocols import Method
from moiety.core.rows import transform_rows
from moiety.core.solver import Descent, PredictsUpdate
from moiety.core.state import Job, Record, State, count_bytes
from moiety.core.types import Params
from moiety.engine.work import make_reply
from moiety.methods.task import Task
from moiety.plan.abstract import META, AbstractRows, abstract_params
from moiety.plan.count import LAYOUTS, Link, Traffic
from moiety.plan.outline import AbstractRun
from moiety.plan.profile import JobCost, profile_job, profile_query
from moiety.plan.speed import time_idle_round, time_job, time_step
from moiety.recipes.common import require_common
from moiety.recipes.options import find_method, make_stages
from moiety.recipes.passage import apply_passage, unmask_record
from moiety.recipes.record import Federation
from moiety.rounds.synchronous import initialise_state, make_jobs, query_jobs


@dataclass(frozen=True)
class Setting:
    """Where a round is to be played.

    Args:
        link: between workers and server.
        layout: who sends what, one of ``LAYOUTS``.
        flops: operations a second of a worker; 0 to measure it with the piece's own shapes.
        launch_s: seconds that a step takes besides.
        copy_rate: bytes a second at which pieces are cut and folded; used where ``flops`` is given.
    """

    link: Link
    layout: str = "server"
    flops: float = 0.0
    launch_s: float = 0.0
    copy_rate: float = 2e9

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout {self.layout!r}; choose one of {tuple(LAYOUTS)}")
        if not self.flops >= 0 or not 0 <= self.launch_s < math.inf or not self.copy_rate > 0:
            raise ValueError(f"{self}: rates and seconds must be at least 0, seconds finite")


@dataclass(frozen=True)
class Forecast:
    """What a round of a method costs; of workers that differ, the most.

    Args:
        method: its name.
        share: the mean piece over the whole model, in bytes.
        cost: of the worker whose job has the most operations.
        memory_bytes: of a worker, at most.
        flops_all: of all workers in a round.
        traffic: of a round.
        step_s: seconds of a local step.
        job_s: seconds of a job apart from its steps: its plan, its rows, a copy of its piece, and
            what its first step takes longer than the others.
        work_s: seconds of the slowest worker's job.
        serial_work_s: seconds of all workers' jobs, one after the other.
        server_s: seconds of assigning, cutting and folding.
        link_s: seconds on the link.
        constant_bytes: what is frozen, which every worker downloads once.
    """

    method: str
    share: float
    cost: JobCost
    memory_bytes: int
    flops_all: int
    traffic: Traffic
    step_s: float
    job_s: float
    work_s: float
    serial_work_s: float
    server_s: float
    link_s: float
    constant_bytes: int = 0

    @property
    def round_s(self) -> float:
        """Seconds of a round of workers beside each other."""
        return self.work_s + self.server_s + self.link_s

    def seconds(self, steps: int) -> float:
        """Seconds until every worker has made some local steps."""
        return self.round_s * steps / self.cost.steps


AVERAGED_BY_ROUND, AVERAGED_BY_STEP = "local_sgd", "data_parallel"
"""The methods with whole models that every plan compares parts with."""


def list_baselines(plan: AbstractRun) -> Sequence[str]:
    """Say what every plan compares; of a graph's features only the hidden ones are assigned."""
    return (plan.kind.subnets, AVERAGED_BY_ROUND, AVERAGED_BY_STEP)


@dataclass(frozen=True)
class FirstRound:
    """The first round of a method: its questions and jobs, of shapes or with numbers.

    Args:
        method: whose first values are those of the jobs.
        state: before the round.
        answers: what workers answered; numbers that stand for others of the same shapes.
    """

    method: Method
    state: State
    cohort: Sequence[int]
    seed: int
    answers: Mapping[int, Params]

    @property
    def query_jobs(self) -> list[Job]:
        """Cut the questions."""
        return list(query_jobs(self.method, self.state, self.cohort, self.seed))

    @property
    def jobs(self) -> list[Job]:
        """Cut the jobs."""
        return list(make_jobs(self.method, self.state, self.cohort, self.answers, self.seed))


def fill_answer(answer: Params) -> dict[str, Tensor]:
    """Make an answer of shapes alone one with numbers: 0, 1, 2, ..., each another index or score.

    Which indices a worker names changes no size, for those of an axis are of one shape.
    """
    return {
        name: torch.arange(t.numel()).reshape(t.shape).to(t.dtype) for name, t in answer.items()
    }


def abstract_round(method: Method, plan: AbstractRun) -> FirstRound:
    """Lay out a first round of shapes alone."""
    first = abstract_params(method.model.params if method.first is None else method.first)
    method = replace(method, first=first)
    return FirstRound(method, initialise_state(method), list(plan.rows), plan.seed, {})


def explain_refusal(method: Method, plan: AbstractRun) -> str:
    """Say why only a run can tell what a method's steps cost; nothing where shapes tell it."""
    if not isinstance(method.solve, Descent):
        return "its workers work until their numbers say stop, so only a run can tell for how long"
    if method.transform is not None and not plan.known:
        return (
            "k-means finds its anchors by a trained common expert, so only a run can tell who is "
            "one; population.anchors=0 or population.scheme='labels' can be planned"
        )
    return ""


def profile_round(
    method: Method, plan: AbstractRun
) -> tuple[Mapping[int, JobCost], Mapping[int, Params]]:
    """Walk a round of a method whose parameters have shapes alone.

    Returns:
        What each worker's job takes, and answers that stand for those to its query.

    Raises:
        ValueError: for a method whose costs hang on numbers, with the reason.
    """
    solve, reason = method.solve, explain_refusal(method, plan)
    if reason:
        raise ValueError(reason)
    assert isinstance(solve, Descent)
    scene = abstract_round(method, plan)
    rows = {worker: AbstractRows(mine, method.transform) for worker, mine in plan.rows.items()}
    try:
        query = method.query
        asked = {} if query is None else {
            job.worker: profile_query(query.solve, job, rows[job.worker])
            for job in scene.query_jobs
        }  # fmt: skip
        answers = {worker: fill_answer(one.answer) for worker, one in asked.items()}
        jobs = replace(scene, answers=answers).jobs
        return {
            job.worker: profile_job(solve, job, rows[job.worker], asked.get(job.worker))
            for job in jobs
        }, answers
    except (RuntimeError, NotImplementedError) as error:
        cause = str(error).partition("\n")[0]
        raise ValueError(f"a step of it looks at numbers, not at shapes ({cause})") from error


def make_forecast_method(name: str, task: Task, record: Federation) -> Method:
    """Make a method as its first rounds have it, or say why a plan cannot.

    Raises:
        ValueError: with the reason.
    """
    if find_method(name).needs_common:
        require_common(name, int(task.common is not None))
    if not find_method(name).trains:
        raise ValueError("it never trains")
    made = make_stages(name, task, record.options)[0].method
    return apply_passage(made, record, task.workers, task.seed)


def forecast_round(name: str, plan: AbstractRun, setting: Setting) -> Forecast:
    """Say what a round of a method would cost.

    Raises:
        ValueError: where only a run can tell, with the reason.
    """
    with torch.device(META):
        method = make_forecast_method(name, plan.task, plan.record)
    found, answers = profile_round(method, plan)
    most = max(found, key=lambda worker: found[worker].flops)
    whole = count_bytes(plan.task.model.params)
    sent = [cost.down_bytes for cost in found.values()]
    back = [cost.up_bytes for cost in found.values()]
    traffic = LAYOUTS[setting.layout](sent, back)
    each_s, apart_s, slice_s = measure_seconds(name, plan, setting, found, answers)
    work = {worker: cost.steps * each_s + apart_s for worker, cost in found.items()}
    return Forecast(
        method=name,
        share=sum(cost.piece_bytes for cost in found.values()) / len(found) / whole,
        cost=found[most],
        memory_bytes=max(cost.memory_bytes for cost in found.values()),
        flops_all=sum(cost.flops for cost in found.values()),
        traffic=traffic,
        step_s=each_s,
        job_s=apart_s,
        work_s=max(work.values()),
        serial_work_s=sum(work.values()),
        server_s=slice_s,
        link_s=setting.link.seconds(traffic.waited),
        constant_bytes=count_bytes(method.constants),
    )


def forecast_traffic(name: str, plan: AbstractRun, setting: Setting) -> Traffic | None:
    """Say what a round sends, where that is known though not how long workers work."""
    try:
        with torch.device(META):
            method = make_forecast_method(name, plan.task, plan.record)
    except ValueError:
        return None  # the reason is told by ``forecast_round``
    solve = method.solve
    if not isinstance(solve, PredictsUpdate) or method.query is not None:
        return None
    jobs = abstract_round(method, plan).jobs
    sizes = {worker: rows.size for worker, rows in plan.rows.items()}
    updates = [solve.predict_update(sizes[job.worker], job) for job in jobs]
    record = Record()
    back = [make_reply(job, one, record).up_bytes for job, one in zip(jobs, updates, strict=True)]
    return LAYOUTS[setting.layout]([job.down_bytes for job in jobs], back)


def measure_seconds(
    name: str,
    plan: AbstractRun,
    setting: Setting,
    found: Mapping[int, JobCost],
    answers: Mapping[int, Params],
) -> tuple[float, float, float]:
    """Give seconds: of a local step, of a job besides, of a round's split, cuts and folds."""
    worker = max(found, key=lambda one: found[one].flops)
    if setting.flops:
        moved = sum(cost.down_bytes + cost.up_bytes for cost in found.values())
        each_s = found[worker].step_flops / setting.flops + setting.launch_s
        return each_s, 0.0, 2 * moved / setting.copy_rate
    method = make_forecast_method(name, plan.numbers(), unmask_record(plan.record))
    solve: Any = method.solve  # a Descent, or ``profile_round`` had refused it
    scene = FirstRound(method, initialise_state(method), list(plan.rows), plan.seed, answers)
    rows = (
        plan.rows[worker]
        if method.transform is None
        else transform_rows(plan.rows[worker], method.transform)
    )
    job = next(job for job in scene.jobs if job.worker == worker)
    each_s = time_step(solve, job, rows)
    apart_s = time_job(solve, job, rows, each_s)
    for question in scene.query_jobs:
        if question.worker == worker:
            assert method.query is not None
            apart_s += time_job(method.query.solve, question, rows)
    return (
        each_s + setting.launch_s,
        apart_s,
        time_idle_round(method, scene.state, scene.cohort, answers),
    )
