"""``moiety.train``: a run of one's own method or module and workers, with all that a run has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from moiety.core.checkpoints import CheckpointPolicy
from moiety.core.describe import describe_leaves
from moiety.core.errors import RunError, WorkerError
from moiety.core.objective import Objective
from moiety.core.protocols import Method
from moiety.core.rows import Rows
from moiety.core.solver import Descent
from moiety.core.stage import Stage
from moiety.core.state import Job, State
from moiety.data.label_shares import LabelShares
from moiety.engine.choose import choose_engine, make_engine
from moiety.engine.stackable import can_stack
from moiety.methods.task import LocalTraining, Task
from moiety.models.base import FeatureModel
from moiety.privacy.config import apply_privacy
from moiety.privacy.crowd import resolve_privacy
from moiety.privacy.rows import apply_row_privacy
from moiety.rounds.asynchronous import Concurrency
from moiety.rounds.cohort import UniformCohort
from moiety.rounds.staged import stage_rounds
from moiety.run.evaluate import read_labels
from moiety.run.folders import hold_folder
from moiety.run.ledger import Watcher
from moiety.run.loop import execute_run
from moiety.run.own_checks import check_call, check_training, check_watchers
from moiety.run.own_method import (
    CHOOSE_AXES,
    adopt_module,
    choose_maker,
    move_constants,
    place_method,
    try_first_batch,
)
from moiety.run.own_run import (
    OwnRun,
    TrainConfig,
    describe_own_crowd,
    list_own_config,
    make_own_run,
    transform_groups,
)
from moiety.run.own_settings import Leaves, keep_settings
from moiety.run.own_workers import OwnWorkers, gather_workers
from moiety.run.trackers import RunAbout, make_trackers
from moiety.run.watch import Progress, make_event_writers
from moiety.serve.adapt import appoint_judges
from moiety.tasks.classes import Classes
from moiety.tasks.torch_metrics import score_by
from moiety.wire.config import apply_wire


def train(  # noqa: PLR0913 - who looks on is no choice of the run, and stands in no record
    what: Method | nn.Module | FeatureModel,
    workers: Mapping[Any, object],
    folder: str | Path,
    how: TrainConfig,
    *,
    test: Mapping[str, Mapping[Any, object]] | None = None,
    classes: Sequence[str] = (),
    watch: Watcher | Sequence[Watcher] = (),
) -> State:
    """Train on your own workers: ledger, checkpoints, final model, as a recipe's run.

    Called again on the same folder, it goes on from the newest checkpoint, bit for bit; with more
    rounds, it plays those too, where nothing else follows from their number. A call with anything
    else that changes a number (an option, a first value, a row) is refused there.

    Args:
        what: a module, a model, or a method with all its choices.
        workers: name -> rows with a target ``y``: ``TableRows``, columns (tensors, arrays), a
            frame, a torch ``Dataset`` or one of Hugging Face, or what has ``size`` and ``take``.
        folder: to write to.
        how: rounds, workers a round, seed, engine; of a plain module also its method.
        test: group (``seen``, ``unseen``, ``validation``) -> worker -> rows to evaluate on.
        classes: their names; by default numbers up to the highest label.
        watch: called with every entry of the ledger (``Round``, ``Evaluation``, ... of
            ``moiety.core.ledger``) as it is written. What returns something true asks for an end
            after this round: the final model is written, and another call goes on from there.
            What raises is raised here after the round, with a checkpoint of it.

    Returns:
        What the final model was written of; ``moiety.load_model(folder)`` gives the model for use.

    Raises:
        ValueError: for rows, names or a module that do not fit, before anything is written.
        RunError: for what a user can mend.
    """
    others = check_watchers(watch)
    run, folder = prepare_run(what, workers, how, test or {}, classes), Path(folder)
    made = make_engine(run.engine, run.rows.__getitem__)
    cohort, stages = UniformCohort(len(run.rows), run.size), [Stage(run.method, how.rounds)]
    concurrency = Concurrency(len(run.rows), run.size)
    rounds = stage_rounds(stages, made, cohort, how.seed, how.schedule, concurrency)
    with hold_folder(folder):
        try:
            keep_settings(folder, run.leaves, chooses=how.keep.chooses)
            played = make_own_run(run, rounds, folder)
            return execute_run(played, folder, [*make_watchers(run.method, how, folder), *others])
        except RunError as error:
            raise name_worker(error, run.crew) from error
        finally:
            made.close()


def prepare_run(
    what: Method | nn.Module | FeatureModel,
    workers: Mapping[Any, object],
    how: TrainConfig,
    test: Mapping[str, Mapping[Any, object]],
    classes: Sequence[str],
) -> OwnRun:
    """Check everything, make the method, try its first batch, and choose the engine."""
    check_call(how, test)
    crew = gather_workers(workers, test, how.device)
    check_training(how, len(crew.rows))
    how.keep.check(crew.groups, 'give some as test={"validation": {worker: rows}}')
    method = place_method(make_own_method(what, how, crew, classes), how.device)
    adjusts = how.local is not None and how.local.adjusts
    validation = bool(crew.groups.get("validation"))
    crowd = describe_own_crowd(how, method, len(crew.rows))
    how = replace(how, privacy=resolve_privacy(how.privacy, crowd))
    method = apply_wire(apply_privacy(method, how.privacy), how.wire)
    method = apply_row_privacy(method, how.privacy)
    method = how.serve.apply(method, validation=validation, uniform=adjusts)
    leaves = describe_run(method, how, crew)
    rows = transform_groups(crew.rows, method)
    if adjusts:
        shares = LabelShares(rows.__getitem__, len(method.serve.objective.names))
        rows = {worker: shares(worker) for worker in rows}
    if not how.privacy.is_on:  # what judges say has no noise, and shows in the final model
        known = crew.groups.get("validation", {})
        method = appoint_judges(method, known, rows.__getitem__, sorted(rows))
    job = try_first_batch(method, crew, rows, how.seed)
    engine = choose_own_engine(method, how, job, rows)
    return OwnRun(method, crew, how, rows, engine, {**leaves, "engine": engine})


def make_own_method(
    what: Method | nn.Module | FeatureModel,
    how: TrainConfig,
    crew: OwnWorkers,
    classes: Sequence[str],
) -> Method:
    """Make the method of a module or a model; one that is given has its own.

    Raises:
        ValueError: for choices that a given method does not read.
    """
    if isinstance(what, Method):
        if not (how.method is how.local is how.objective is None) or how.metrics:
            raise ValueError(
                "TrainConfig.method, .local, .objective and .metrics are of a plain module, but a "
                "method was given, which has all of them; leave them out"
            )
        serve: Any = what.serve  # every way to serve is a record with an objective
        objective = name_classes(serve.objective, crew, classes)
        return replace(what, serve=replace(serve, objective=objective))
    objective = score_by(name_classes(how.objective or Classes(), crew, classes), how.metrics)
    size, first = how.size or len(crew.rows), crew.rows[0]
    batch = first.take(torch.arange(min(2, first.size)))
    model = move_constants(adopt_module(what, batch), how.device)
    task = Task(
        model,
        how.local or LocalTraining(),
        rounds=how.rounds,
        workers=size,
        seed=how.seed,
        shape=crew.forms["x"].shape if "x" in crew.forms else (),
        classes=objective.outputs,
        objective=objective,
        population=len(crew.rows),
    )
    maker = choose_maker(how.method or "fedavg")
    try:
        return maker(task)
    except ValueError as error:
        raise ValueError(f"{error}. {CHOOSE_AXES}") from error


def name_classes(objective: Objective, crew: OwnWorkers, names: Sequence[str]) -> Objective:
    """Check the targets of all workers, and name classes that have no names.

    Raises:
        ValueError: for a target that is none, with its worker, and for names that are not read.
    """
    highest = 0
    for worker, rows in crew.rows.items():
        y = read_labels(rows)
        try:
            objective.check(y)
        except ValueError as error:
            raise ValueError(f"{crew.name(worker)}: {error}") from error
        highest = max(highest, int(y.max()))
    if names and tuple(names) == objective.names:
        return objective
    if names and (objective.names or not isinstance(objective, Classes)):
        raise ValueError(
            f"classes={tuple(names)}, but the objective {objective.name} has the names "
            f"{objective.names}; leave classes out"
        )
    if objective.names or not isinstance(objective, Classes):
        return objective
    return replace(objective, names=tuple(names) or tuple(map(str, range(highest + 1))))


def describe_run(method: Method, how: TrainConfig, crew: OwnWorkers) -> Leaves:
    """Describe all that changes a number; when checkpoints are written changes none."""
    chosen = replace(how, checkpoint=CheckpointPolicy(), engine="", log=())
    plain = {"workers": crew.names, "rows": dict(crew.digests)}
    return {
        **describe_leaves(chosen, "how"),
        **describe_leaves(plain, "data"),
        **describe_leaves(method, "method"),
    }


def choose_own_engine(method: Method, how: TrainConfig, job: Job, rows: Mapping[int, Rows]) -> str:
    """Choose the engine: as was said, or by size and by a try whether the model can be stacked."""
    solve = method.solve

    def try_stacking() -> bool:
        return isinstance(solve, Descent) and can_stack(solve, job, rows[job.worker])

    if how.engine != "auto":
        return how.engine
    return choose_engine(method, how.device, how.size or len(rows), try_stacking)


def name_worker(error: RunError, crew: OwnWorkers) -> RunError:
    """Name the worker that failed as its owner does."""
    cause = error.__cause__
    if isinstance(cause, WorkerError) and crew.names[cause.worker] != str(cause.worker):
        return RunError(f"{error} (worker {cause.worker} is {crew.names[cause.worker]!r})")
    return error


def make_watchers(method: Method, how: TrainConfig, folder: Path) -> list[Watcher]:
    """Say who looks on."""
    about = RunAbout(method.name, folder, list_own_config(how))
    writers = make_event_writers(folder / "tensorboard", 0)
    return [Progress(method.name, how.rounds), *writers, *make_trackers(how.log, about)]
