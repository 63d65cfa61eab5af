"""What a method of a recipe would cost, learnt by walking one of its rounds on shapes alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from moiety.core.protocols import Descent, Foretold, Method
from moiety.core.rows import look
from moiety.core.state import Job, Record, State, count_bytes
from moiety.core.types import Params
from moiety.engine.work import answer
from moiety.methods.task import Task
from moiety.plan.abstract import META, Bare, shapes
from moiety.plan.count import LAYOUTS, Link, Traffic
from moiety.plan.outline import Outline
from moiety.plan.profile import Effort, ask, rehearse
from moiety.plan.speed import idle_s, job_s, step_s
from moiety.recipes.build import REFERENCE
from moiety.recipes.common import need_common
from moiety.recipes.options import make
from moiety.recipes.record import Federation
from moiety.rounds.synchronous import begin, dispatch, questions


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
        effort: of the worker whose job has the most operations.
        memory_bytes: of a worker, at most.
        flops_all: of all workers in a round.
        traffic: of a round.
        step_s: seconds of a local step.
        job_s: seconds of a job apart from its steps: its plan, its rows, a copy of its piece, and
            what its first step takes longer than the others.
        work_s: seconds of the slowest worker's job.
        works_s: seconds of all workers' jobs, one after the other.
        slice_s: seconds of dealing, cutting and folding.
        link_s: seconds on the link.
    """

    method: str
    share: float
    effort: Effort
    memory_bytes: int
    flops_all: int
    traffic: Traffic
    step_s: float
    job_s: float
    work_s: float
    works_s: float
    slice_s: float
    link_s: float

    @property
    def round_s(self) -> float:
        """Seconds of a round of workers beside each other."""
        return self.work_s + self.slice_s + self.link_s

    def seconds(self, steps: int) -> float:
        """Seconds until every worker has made some local steps."""
        return self.round_s * steps / self.effort.steps


def baselines(plan: Outline) -> Sequence[str]:
    """Say what every plan compares; of a graph's features only the hidden ones are dealt."""
    return ("gist" if plan.graph else "ist", "local_sgd", "data_parallel")


@dataclass(frozen=True)
class Scene:
    """The first round of a method: its questions and jobs, of shapes or with numbers.

    Args:
        method: whose first values are those of the jobs.
        state: before the round.
        hints: what workers answered; numbers that stand for others of the same shapes.
    """

    method: Method
    state: State
    roster: Sequence[int]
    seed: int
    hints: Mapping[int, Params]

    @property
    def questions(self) -> list[Job]:
        """Cut the questions."""
        return list(questions(self.method, self.state, self.roster, self.seed))

    @property
    def jobs(self) -> list[Job]:
        """Cut the jobs."""
        return list(dispatch(self.method, self.state, self.roster, self.hints, self.seed))


def stand_in(hint: Params) -> dict[str, Tensor]:
    """Make an answer of shapes alone one with numbers: 0, 1, 2, ..., each another index or score.

    Which indices a worker names changes no size, for those of an axis are of one shape.
    """
    return {name: torch.arange(t.numel()).reshape(t.shape).to(t.dtype) for name, t in hint.items()}


def bare(method: Method, plan: Outline) -> Scene:
    """Lay out a first round of shapes alone."""
    first = shapes(method.model.params if method.first is None else method.first)
    state = State(first, slots=method.solve.slots(first))
    return Scene(replace(method, first=first), state, list(plan.rows), plan.seed, {})


def refusal(method: Method, plan: Outline) -> str:
    """Say why only a run can tell what a method's steps cost; nothing where shapes tell it."""
    if not isinstance(method.solve, Descent):
        return "its workers work until their numbers say stop, so only a run can tell for how long"
    if method.view is not None and not plan.known:
        return (
            "k-means finds its anchors by a trained common expert, so only a run can tell who is "
            "one; population.anchors=0 or population.scheme='labels' can be planned"
        )
    return ""


def efforts(method: Method, plan: Outline) -> tuple[Mapping[int, Effort], Mapping[int, Params]]:
    """Walk a round of a method whose parameters have shapes alone.

    Returns:
        What each worker's job takes, and hints that stand for those of its probe.

    Raises:
        ValueError: for a method whose costs hang on numbers, with the reason.
    """
    solve, reason = method.solve, refusal(method, plan)
    if reason:
        raise ValueError(reason)
    assert isinstance(solve, Descent)
    scene = bare(method, plan)
    rows = {worker: Bare(mine, method.view) for worker, mine in plan.rows.items()}
    try:
        probe = method.probe
        asked = {} if probe is None else {
            job.worker: ask(probe.solve, job, rows[job.worker]) for job in scene.questions
        }  # fmt: skip
        hints = {worker: stand_in(one.hint) for worker, one in asked.items()}
        jobs = replace(scene, hints=hints).jobs
        return {
            job.worker: rehearse(solve, job, rows[job.worker], asked.get(job.worker))
            for job in jobs
        }, hints
    except (RuntimeError, NotImplementedError) as error:
        cause = str(error).partition("\n")[0]
        raise ValueError(f"its model looks at numbers, not at shapes ({cause})") from error


def made(name: str, task: Task, record: Federation) -> Method:
    """Make a method, or say why a plan cannot.

    Raises:
        ValueError: with the reason.
    """
    if name == REFERENCE:
        raise ValueError("it never trains")
    if name == "ddome":
        need_common(name, int(task.common is not None))
    return make(name, task, record.options)


def forecast(name: str, plan: Outline, setting: Setting) -> Forecast:
    """Say what a round of a method would cost.

    Raises:
        ValueError: where only a run can tell, with the reason.
    """
    with torch.device(META):
        method = made(name, plan.task, plan.record)
    found, hints = efforts(method, plan)
    most = max(found, key=lambda worker: found[worker].flops)
    whole = count_bytes(plan.task.model.params)
    sent = [effort.down_bytes for effort in found.values()]
    back = [effort.up_bytes for effort in found.values()]
    traffic = LAYOUTS[setting.layout](sent, back)
    each_s, apart_s, slice_s = speeds(name, plan, setting, found, hints)
    work = {worker: effort.steps * each_s + apart_s for worker, effort in found.items()}
    return Forecast(
        method=name,
        share=sum(effort.piece_bytes for effort in found.values()) / len(found) / whole,
        effort=found[most],
        memory_bytes=max(effort.memory_bytes for effort in found.values()),
        flops_all=sum(effort.flops for effort in found.values()),
        traffic=traffic,
        step_s=each_s,
        job_s=apart_s,
        work_s=max(work.values()),
        works_s=sum(work.values()),
        slice_s=slice_s,
        link_s=setting.link.seconds(traffic.waited),
    )


def exchange(name: str, plan: Outline, setting: Setting) -> Traffic | None:
    """Say what a round sends, where that is known though not how long workers work."""
    try:
        with torch.device(META):
            method = made(name, plan.task, plan.record)
    except ValueError:
        return None  # the reason is told by ``forecast``
    solve = method.solve
    if not isinstance(solve, Foretold) or method.probe is not None:
        return None
    jobs = bare(method, plan).jobs
    sizes = {worker: rows.size for worker, rows in plan.rows.items()}
    updates = [solve.foretell(sizes[job.worker], job) for job in jobs]
    record = Record()
    back = [answer(job, one, record).up_bytes for job, one in zip(jobs, updates, strict=True)]
    return LAYOUTS[setting.layout]([job.down_bytes for job in jobs], back)


def speeds(
    name: str,
    plan: Outline,
    setting: Setting,
    found: Mapping[int, Effort],
    hints: Mapping[int, Params],
) -> tuple[float, float, float]:
    """Give seconds: of a local step, of a job besides, of dealing, cutting and folding a round."""
    worker = max(found, key=lambda one: found[one].flops)
    if setting.flops:
        moved = sum(effort.down_bytes + effort.up_bytes for effort in found.values())
        each_s = found[worker].step_flops / setting.flops + setting.launch_s
        return each_s, 0.0, 2 * moved / setting.copy_rate
    method = made(name, plan.numbers(), plan.record)
    solve: Any = method.solve  # a Descent, or ``efforts`` had refused it
    scene = Scene(method, begin(method), list(plan.rows), plan.seed, hints)
    rows = plan.rows[worker] if method.view is None else look(plan.rows[worker], method.view)
    job = next(job for job in scene.jobs if job.worker == worker)
    each_s = step_s(solve, job, rows)
    apart_s = job_s(solve, job, rows, each_s)
    for question in scene.questions:
        if question.worker == worker:
            assert method.probe is not None
            apart_s += job_s(method.probe.solve, question, rows)
    return each_s + setting.launch_s, apart_s, idle_s(method, scene.state, scene.roster, hints)
