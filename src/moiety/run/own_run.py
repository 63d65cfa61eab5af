"""A run of one's own: its settings, and what it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from moiety.core.checkpoints import CheckpointPolicy
from moiety.core.keep import Keep
from moiety.core.ledger import Start
from moiety.core.objective import Metric, Objective, list_metrics
from moiety.core.protocols import Method
from moiety.core.rows import CALIBRATION_ROWS, Rows, sample_rows, transform_rows
from moiety.core.state import State, count_bytes
from moiety.data.dataset import FeatureScale
from moiety.engine.ranks import Ranks
from moiety.methods.task import LocalTraining
from moiety.ops.torch_optim import name_optimizer
from moiety.privacy.config import PrivacyConfig
from moiety.privacy.crowd import Crowd, require_waiting
from moiety.privacy.rows import SHARED_LABELS, count_epochs
from moiety.rounds.cohort import UniformCohort
from moiety.rounds.schedule import Schedule
from moiety.rounds.staged import StagedRounds
from moiety.run.environment import describe_environment
from moiety.run.evaluate import fit_serve
from moiety.run.loop import CHECKPOINTS, Run, choose_interval
from moiety.run.own_method import MakeMethod
from moiety.run.own_settings import Leaves, fingerprint_leaves
from moiety.run.own_workers import UNSEEN, OwnWorkers
from moiety.run.privacy import play_privately
from moiety.run.whole import WholeCheckpoints, WholeEvaluation, check_state
from moiety.serve.adapters import GraphAdapter, TableAdapter
from moiety.serve.input_spec import InputSpec
from moiety.serve.named import NamedAdapter
from moiety.serve.predictor import make_predictor, write_model
from moiety.serve.prior import Serving
from moiety.wire.config import WireConfig


@dataclass(frozen=True)
class TrainConfig:
    """How a run of your own goes.

    Args:
        rounds: of training.
        size: workers a round, drawn uniformly; 0 for all.
        seed: of the run.
        engine: ``auto``, ``serial``, ``vectorized`` or ``pool``.
        evaluate_every: rounds between evaluations; 0 for as many as give ten evaluations or more.
            One comes before the first round besides.
        checkpoint: of checkpoints.
        schedule: when the server commits; ``size`` workers at a time where it does not wait for
            all.
        device: ``cpu``, ``cuda`` or ``cuda:0``; first values and rows are moved there.
        method: of a plain module: a name, or what makes a method of a task
            (``functools.partial(METHODS["fedprox"].make, mu=0.01)``); by default ``fedavg``.
        local: how workers train a plain module; by default ``LocalTraining()``.
        objective: what a plain module learns; by default ``Classes()``.
        serve: how the model is served when it is evaluated and used: corrected for a worker's own
            mix of classes, or not.
        wire: how what is sent is coded; as it is by default.
        privacy: what whoever sees the models may learn of a worker; no promise by default.
        metrics: how a plain module is scored, the first decides: names of the task's, metrics of
            ours, or objects of torchmetrics whose state adds up over rows.
        keep: which model is the final one, and when the run ends early; by ``test["validation"]``.
        log: trackers that are told the numbers too: ``mlflow``, ``wandb`` (extras of these names).
    """

    rounds: int
    size: int = 0
    seed: int = 0
    engine: str = "auto"
    evaluate_every: int = 0
    checkpoint: CheckpointPolicy = field(default_factory=CheckpointPolicy)
    schedule: Schedule = field(default_factory=Schedule)
    device: str = "cpu"
    method: str | MakeMethod | None = None
    local: LocalTraining | None = None
    objective: Objective | None = None
    serve: Serving = field(default_factory=Serving)
    keep: Keep = field(default_factory=Keep)
    log: tuple[str, ...] = ()
    wire: WireConfig = field(default_factory=WireConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    metrics: Sequence[str | Metric | object] = ()


@dataclass(frozen=True)
class OwnRun:
    """A run of one's own, ready but for its engine and folder.

    Args:
        method: the choices, placed on their device.
        crew: who trains and who is evaluated.
        how: it goes.
        rows: of the workers, as the method sees them.
        engine: that was chosen.
        leaves: what it is begun with, all of it.
    """

    method: Method
    crew: OwnWorkers
    how: TrainConfig
    rows: Mapping[int, Rows]
    engine: str
    leaves: Leaves

    @property
    def objective(self) -> Objective:
        """What is learnt."""
        return self.method.serve.objective

    @property
    def size(self) -> int:
        """Count the workers of a round."""
        return self.how.size or len(self.rows)


def make_own_run(run: OwnRun, rounds: StagedRounds, folder: Path) -> Run[State]:
    """Put together a run of one stage."""
    method, how = run.method, run.how
    count, ending = how.rounds, ""
    if how.privacy.is_on:
        crowd = describe_own_crowd(how, method, len(run.rows))
        rounds, count, ending = play_privately(rounds, how.privacy, crowd, folder)
    groups = {name: transform_groups(one, method) for name, one in run.crew.groups.items()}
    sample = sample_rows(run.rows.__getitem__, list(run.rows), CALIBRATION_ROWS, how.seed)
    mark = fingerprint_leaves(run.leaves)
    kept, last = folder / CHECKPOINTS, how.checkpoint.last

    def finish(state: State) -> None:
        params = method.calibrate(state.params, sample)
        fitted = fit_serve(method, params, {}, groups)
        note = {"recipe": "own", "method": method.name, "seed": how.seed, "round": state.round}
        predictor = make_predictor(fitted, params, make_own_input_spec(run), note)
        write_model(predictor, folder / "final")

    return Run(
        rounds=rounds,
        count=count,
        check=check_state,
        evaluate=WholeEvaluation(rounds, groups, sample, Ranks()),
        checkpoints=WholeCheckpoints(kept, rounds, Ranks(), mark, how.device, last),
        finish=finish,
        start=make_own_start(run),
        evaluate_every=choose_interval(how.evaluate_every, how.rounds),
        checkpoint=how.checkpoint,
        metric=run.objective.metrics[0],
        keep=how.keep,
        ending=ending,
    )


def describe_own_crowd(how: TrainConfig, method: Method, workers: int) -> Crowd:
    """Say who may take part, for the accountant.

    Raises:
        ValueError: for a private run that does not wait for all.
    """
    schedule = how.schedule
    require_waiting(how.privacy, schedule.kind, waits=schedule.is_synchronous)
    if how.privacy.guards_rows and how.local is not None and how.local.adjusts:
        raise ValueError(SHARED_LABELS.format(how.privacy.row_clip))
    size, epochs = how.size or workers, count_epochs(method)
    return Crowd(workers, size, UniformCohort(workers, size), how.seed, how.rounds, epochs)


def make_own_input_spec(run: OwnRun) -> InputSpec:
    """Say what the model takes: rows like the first, which nobody scaled or projected."""
    forms, none = run.crew.forms, torch.zeros(0)
    form = forms.get("x")
    graph = "edges" in forms
    if form is None or not form.shape or form.dtype not in ("float32", "int64"):
        return InputSpec(
            (), FeatureScale(none, none), run.objective.names, adapter=NamedAdapter(forms)
        )
    if len(forms) > 1 and not graph:
        return InputSpec(
            (), FeatureScale(none, none), run.objective.names, adapter=NamedAdapter(forms)
        )
    adapter = GraphAdapter(form.shape[0]) if graph else TableAdapter()
    width = form.shape[0]
    scale = FeatureScale(torch.zeros(width), torch.ones(width))
    return InputSpec(form.shape, scale, run.objective.names, adapter=adapter)


def list_own_config(how: TrainConfig) -> Mapping[str, Any]:
    """List the settings that are plain data."""
    named = ("rounds", "size", "seed", "evaluate_every")
    local = {} if how.local is None else {"local": asdict(how.local)}
    if how.local is not None and not isinstance(how.local.optimizer, str):
        local["local"]["optimizer"] = name_optimizer(how.local.optimizer)
    plain = {"keep": asdict(how.keep), "wire": asdict(how.wire), "privacy": asdict(how.privacy)}
    return {**{name: getattr(how, name) for name in named}, **plain, **local}


def make_own_start(run: OwnRun) -> Start:
    """Write the first line of a ledger."""
    method, how, groups = run.method, run.how, run.crew.groups
    return Start(
        recipe="own",
        method=method.name,
        seed=how.seed,
        engine=run.engine,
        device=how.device,
        rounds=how.rounds,
        command="moiety.train(...)",
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        config=list_own_config(how),
        environment=describe_environment(),
        classes=list(run.objective.strata),
        objective=run.objective.name,
        metrics=list_metrics(run.objective),
        num_seen=len(run.rows),
        num_unseen=len(groups.get(UNSEEN, {})),
        seen=[],
        unseen=[],
        worker_names=run.crew.told_names,
        num_parameters=sum(t.numel() for t in method.model.params.values()),
        constant_bytes=count_bytes(method.constants),
    )


def transform_groups(group: Mapping[int, Rows], method: Method) -> Mapping[int, Rows]:
    """See the rows of workers through a method's view."""
    if method.transform is None:
        return group
    return {worker: transform_rows(rows, method.transform) for worker, rows in group.items()}
