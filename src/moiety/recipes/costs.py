"""What a method of a recipe would cost, learnt by walking one of its rounds on shapes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from moiety.core.play import dispatch
from moiety.core.protocols import Descent, Method
from moiety.core.rows import TableRows
from moiety.core.state import Job, State, count_bytes
from moiety.engine.pace import idle_s, job_s, step_s
from moiety.engine.rehearse import Effort, rehearse, shapes
from moiety.methods.task import Task
from moiety.models.gated import Base
from moiety.ops.cost import LAYOUTS, Link, Traffic
from moiety.recipes.build import read_data
from moiety.recipes.nets import NETS, check_kind, network
from moiety.recipes.options import make
from moiety.recipes.population import place
from moiety.recipes.record import Federation

BASELINES = ("ist", "local_sgd", "data_parallel")
"""What every plan compares."""


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
        if self.flops < 0 or self.launch_s < 0 or not self.copy_rate > 0:
            raise ValueError(f"{self}: rates and seconds must be at least 0")


@dataclass(frozen=True)
class Outline:
    """A recipe's run, without its numbers.

    Args:
        task: whose model has shapes alone.
        rows: of each worker of a round.
        net: how to make the model with numbers.
    """

    task: Task
    rows: Mapping[int, TableRows]
    record: Federation
    seed: int

    def numbers(self) -> Base:
        """Make the model with numbers, to measure with."""
        shape, classes = self.task.shape, self.task.classes
        return network(self.record.net, shape, classes, self.seed)


def outline(record: Federation, seed: int) -> Outline:
    """Read the data and lay out the task; no model is allocated, no common expert trained."""
    check_kind(record.net)
    data = read_data(record.data, record.target)
    places = place(data, record.population, seed)
    if not NETS[record.net.kind].shaped:
        data = replace(data, x=data.x.flatten(1))
    workers = sorted(places.train)[: min(record.turnout.size, len(places.train))]
    shape, classes = tuple(data.x.shape[1:]), len(data.classes)
    with torch.device("meta"):
        net = network(record.net, shape, classes, seed)
    task = Task(
        net, record.local, record.rounds, len(workers), seed, shape=shape, classes=classes,
        anchors=places.anchors,
    )  # fmt: skip
    table = data.table()
    return Outline(task, {w: TableRows(table, places.train[w]) for w in workers}, record, seed)


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
        job_s: seconds of a job apart from its steps: its plan, its rows, a copy of its piece.
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


def efforts(method: Method, rows: Mapping[int, TableRows], seed: int) -> Mapping[int, Effort]:
    """Walk a round of a method whose parameters have shapes alone.

    Raises:
        ValueError: for a method whose costs hang on numbers, with the reason.
    """
    solve = method.solve
    if method.probe is not None:
        raise ValueError("its parts hang on what workers answer, so only a run can tell")
    if not isinstance(solve, Descent) or method.view is not None:
        raise ValueError("its workers do not make plain steps, so only a run can tell")
    found = {}
    for job in jobs_of(method, list(rows), seed):
        mine = rows[job.worker]
        try:
            row = mine.take(torch.zeros(1, dtype=torch.long))
            found[job.worker] = rehearse(solve, job, mine.size, row)
        except (RuntimeError, NotImplementedError) as error:
            cause = str(error).partition("\n")[0]
            raise ValueError(f"its model looks at numbers, not at shapes ({cause})") from error
    return found


def jobs_of(method: Method, roster: Sequence[int], seed: int) -> list[Job]:
    """Cut the jobs of the first round, of shapes alone."""
    first = shapes(method.model.params if method.first is None else method.first)
    method = replace(method, first=first)
    state = State(first, slots=method.solve.slots(first))
    return list(dispatch(method, state, roster, {}, seed))


def made(name: str, task: Task, record: Federation) -> Method:
    """Make a method, or say why a plan cannot.

    Raises:
        ValueError: with the reason.
    """
    if name == "common":
        raise ValueError("it never trains")
    if name == "ddome" and task.common is None:
        raise ValueError("its parts hang on a common expert, so only a run can tell")
    return make(name, task, record.options)


def forecast(name: str, plan: Outline, setting: Setting) -> Forecast:
    """Say what a round of a method would cost.

    Raises:
        ValueError: where only a run can tell, with the reason.
    """
    method = made(name, plan.task, plan.record)
    found = efforts(method, plan.rows, plan.seed)
    most = max(found, key=lambda worker: found[worker].flops)
    whole = count_bytes(plan.task.model.params)
    sent = [effort.down_bytes for effort in found.values()]
    back = [effort.up_bytes for effort in found.values()]
    traffic = LAYOUTS[setting.layout](sent, back)
    each_s, apart_s, slice_s = speeds(name, plan, setting, found, most)
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


def speeds(
    name: str, plan: Outline, setting: Setting, found: Mapping[int, Effort], worker: int
) -> tuple[float, float, float]:
    """Give seconds: of a local step, of a job besides, of dealing, cutting and folding a round."""
    if setting.flops:
        moved = sum(effort.down_bytes + effort.up_bytes for effort in found.values())
        each_s = found[worker].step_flops / setting.flops + setting.launch_s
        return each_s, 0.0, 2 * moved / setting.copy_rate
    task = replace(plan.task, model=plan.numbers())
    method = made(name, task, plan.record)
    solve: Any = method.solve  # a Descent, or ``efforts`` had refused it
    first = method.model.params if method.first is None else method.first
    state = State(first, slots=solve.slots(first))
    roster = list(plan.rows)
    job = next(j for j in dispatch(method, state, roster, {}, plan.seed) if j.worker == worker)
    rows = plan.rows[worker]
    each_s = step_s(solve, job, rows) + setting.launch_s
    return each_s, job_s(solve, job, rows), idle_s(method, state, roster)
