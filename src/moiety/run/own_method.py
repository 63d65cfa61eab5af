"""The method of a run of one's own: made of a plain module where none is given, and tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice

import torch
from torch import nn

from moiety.core.errors import WorkerError
from moiety.core.protocols import Method
from moiety.core.rows import Rows
from moiety.core.solver import Descent
from moiety.core.state import Job
from moiety.core.tensors import move_tensors
from moiety.core.types import TARGET, Batch
from moiety.engine.choose import LEAST_STACKED_WORKERS, make_engine
from moiety.engine.stackable import make_first_step
from moiety.engine.work import read_generators, refuse_global_draws
from moiety.methods.task import Task
from moiety.models.base import FeatureModel
from moiety.models.module import ModuleModel, from_module
from moiety.recipes.options import find_method
from moiety.rounds.synchronous import initialise_state, make_jobs, query_jobs
from moiety.run.evaluate import read_labels
from moiety.run.own_workers import OwnWorkers

MakeMethod = Callable[[Task], Method]
"""Makes a method of a task: ``METHODS["fedprox"].make``, or a partial of it with options."""

CHOOSE_AXES = (
    "Where axes or a common expert are what is missing: train() gives a plain module none; name "
    "axes with from_module(net, axes={'0.weight': ('h', None), ...}), or give train a whole "
    "method, METHODS[name].make(Task(from_module(net), ...)); docs/modules.md shows both"
)


def choose_maker(method: str | MakeMethod) -> MakeMethod:
    """Find a method by its name; one that is a function is itself.

    Raises:
        UnknownNameError: naming the nearest methods.
    """
    return find_method(method).make if isinstance(method, str) else method


def adopt_module(what: nn.Module | FeatureModel, batch: Batch) -> FeatureModel:
    """Make a model of a module, which says that it draws noise where it does on a first batch.

    Raises:
        ValueError: for what is no module, or one that fails on the batch or has nothing to train.
    """
    if isinstance(what, str | type | Mapping):
        raise ValueError(  # noqa: TRY004 (a value of a call, as all others)
            f"{what!r} is no module; give a torch.nn.Module, a model or a method"
        )
    model = from_module(what) if isinstance(what, nn.Module) else what
    if not isinstance(model, ModuleModel):
        return model
    if not model.params.keys() - model.buffers.keys():
        raise ValueError(
            f"{type(model.module).__name__} has nothing to train: no parameter requires a gradient"
        )
    if model.draws_noise:
        return model
    with torch.random.fork_rng(), torch.no_grad():
        before = read_generators()
        try:
            model.forward(model.params, batch, {})
        except (RuntimeError, TypeError, ValueError, LookupError) as error:
            given = {name: f"{one.dtype} {list(one.shape)}" for name, one in batch.items()}
            raise ValueError(
                f"the module fails on a first batch: {error} (the rows have {given}; give them as "
                "the module reads them)"
            ) from error
        draws = read_generators() != before
    return replace(model, draws_noise=draws)


def place_method(method: Method, device: str) -> Method:
    """Bring the first values of a method to a device.

    Raises:
        ValueError: for constants that lie elsewhere, which only whoever made the method can move.
    """
    kinds = {tensor.device.type for tensor in method.constants.values()}
    if kinds - {torch.device(device).type}:
        raise ValueError(
            f"device={device!r}, but what is frozen lies on {sorted(kinds)}; give train() the "
            "module itself, or move it before the method is made"
        )
    first = method.model.params if method.first is None else method.first
    return replace(method, first=move_tensors(first, device))


def move_constants(model: FeatureModel, device: str) -> FeatureModel:
    """Bring what is frozen of a module to a device, and what it keeps beside its parameters."""
    if not isinstance(model, ModuleModel):
        return model
    moved = model.replace_constants(move_tensors(model.constants, device))
    return replace(moved, module=moved.module.to(device))


def cut_first_job(method: Method, rows: Mapping[int, Rows], seed: int) -> Job:
    """Ask some workers, split, and cut the job of the first."""
    cohort: Sequence[int] = list(islice(rows, LEAST_STACKED_WORKERS))
    state = initialise_state(method)
    serial, answers = make_engine("serial", rows.__getitem__), {}
    if method.query is not None:
        jobs = query_jobs(method, state, cohort, seed)
        answers = {reply.worker: reply.answer for reply in serial.map(method.query.solve, jobs)}
    return next(make_jobs(method, state, cohort, answers, seed))


def try_first_batch(method: Method, crew: OwnWorkers, rows: Mapping[int, Rows], seed: int) -> Job:
    """Run the first batch of the first worker through a method: its step, and its answer.

    Args:
        method: to try.
        crew: whose worker is named where it fails.
        rows: of the workers, as the method sees them.
        seed: of the run.

    Returns:
        The job whose step was made.

    Raises:
        ValueError: naming the worker and what is wrong, before anything was written.
    """
    generators = read_generators()
    try:
        with torch.random.fork_rng():
            job = cut_first_job(method, rows, seed)
            first = rows[job.worker]
            if isinstance(method.solve, Descent):
                check_answer(method, first, crew)
                make_first_step(method.solve, job, first, {})
            refuse_global_draws(generators)
    except UnfitAnswersError:
        raise
    except (WorkerError, RuntimeError, TypeError, ValueError, LookupError) as error:
        who = crew.name(error.worker if isinstance(error, WorkerError) else next(iter(rows)))
        cause = error.cause if isinstance(error, WorkerError) else error
        raise ValueError(f"{who}, first batch: {cause}") from error
    return job


class UnfitAnswersError(ValueError):
    """A network has too few outputs, or a metric cannot score them; of no one worker."""


def check_answer(method: Method, rows: Rows, crew: OwnWorkers) -> None:
    """Ask a method for two rows; a network must have an output for every class, number or label.

    Raises:
        UnfitAnswersError: if it has fewer, with the worker that has the highest class, or if a
            metric cannot score what it answers.
    """
    batch = rows.take(torch.arange(min(2, rows.size)))
    with torch.no_grad():
        told = method.serve.scores(initialise_state(method).params, batch, {})
    names, kind = method.serve.objective.names, method.serve.objective.name
    if told.ndim < 2 or told.shape[-1] < len(names):
        highest = describe_highest(crew) if method.serve.objective.categorical else ""
        raise UnfitAnswersError(
            f"the model gives outputs {list(told.shape)} for {len(batch[TARGET])} rows, but there "
            f"are {len(names)} {kind} ({', '.join(names[:3])}, ...){highest}; give it as many "
            "outputs"
        )
    answer, y = method.serve.objective.select(told, batch[TARGET])
    for metric in method.serve.objective.metrics:
        try:
            metric.sums(answer, y)
        except (RuntimeError, TypeError, ValueError, LookupError) as error:
            raise UnfitAnswersError(
                f"metric {metric.name} fails on a first batch: {error}"
            ) from error


def describe_highest(crew: OwnWorkers) -> str:
    """Say who has the highest class, and in which row: a wrong label shows there."""
    labels = {worker: read_labels(rows) for worker, rows in crew.rows.items()}
    worker = max(labels, key=lambda one: int(labels[one].max()))
    row = int(labels[worker].flatten().argmax())
    return f", the highest, {int(labels[worker].max())}, in row {row} of {crew.name(worker)}"
