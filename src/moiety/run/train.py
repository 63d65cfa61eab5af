"""A run of your own method, module and workers, with all that a run has."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import torch

from moiety.core.checkpoints import CheckpointPolicy
from moiety.core.errors import RunError
from moiety.core.ledger import Start
from moiety.core.protocols import Method
from moiety.core.rows import CALIBRATION_ROWS, Rows, sample_rows, transform_rows
from moiety.core.stage import Stage
from moiety.core.state import State, count_bytes
from moiety.data.dataset import FeatureScale
from moiety.engine.choose import RANK_ENGINES, choose_engine, make_engine
from moiety.engine.ranks import Ranks
from moiety.rounds.asynchronous import Concurrency
from moiety.rounds.cohort import UniformCohort
from moiety.rounds.schedule import Schedule
from moiety.rounds.staged import StagedRounds, stage_rounds
from moiety.run.environment import describe_environment
from moiety.run.evaluate import read_labels
from moiety.run.folders import hold_folder
from moiety.run.loop import CHECKPOINTS, Run, Watcher, execute_run
from moiety.run.watch import Progress, make_event_writers
from moiety.run.whole import WholeCheckpoints, WholeEvaluation, check_state
from moiety.serve.input_spec import GraphAdapter, InputSpec, TableAdapter
from moiety.serve.predictor import make_predictor, write_model


@dataclass(frozen=True)
class TrainConfig:
    """How a run of your own goes.

    Args:
        rounds: of training.
        size: workers a round, drawn uniformly; 0 for all.
        seed: of the run.
        engine: ``auto``, ``serial``, ``vectorized`` or ``pool``.
        evaluate_every: rounds between evaluations.
        checkpoint: of checkpoints.
        schedule: when the server commits; ``size`` workers at a time where it does not wait for
            all.
    """

    rounds: int
    size: int = 0
    seed: int = 0
    engine: str = "auto"
    evaluate_every: int = 10
    checkpoint: CheckpointPolicy = field(default_factory=CheckpointPolicy)
    schedule: Schedule = field(default_factory=Schedule)


def train(
    method: Method,
    workers: Mapping[int, Rows],
    folder: str | Path,
    how: TrainConfig,
    *,
    test: Mapping[str, Mapping[int, Rows]] | None = None,
    classes: Sequence[str] = (),
) -> State:
    """Run a method on your own workers: ledger, checkpoints, final model, as a recipe's run.

    Called again on the same folder, it goes on from the newest checkpoint, bit for bit.

    Args:
        method: the choices.
        workers: 0, 1, 2, ... -> rows with columns ``x`` and ``y``.
        folder: to write to.
        how: rounds, workers a round, seed, engine.
        test: group (``seen``, ``unseen``, ``validation``) -> worker -> rows to evaluate on.
        classes: their names; by default numbers up to the highest label.

    Returns:
        The final state; ``moiety.load_model(folder)`` gives the model for use.

    Raises:
        ValueError: if workers are not numbered from 0.
        RunError: for what a user can mend.
    """
    check_training(workers, how)
    folder, size = Path(folder), how.size or len(workers)
    how.schedule.check(size)
    engine = how.engine if how.engine != "auto" else choose_engine(method, "cpu", size)
    made = make_engine(engine, transform_groups(workers, method).__getitem__)
    concurrency = Concurrency(len(workers), size)
    cohort, stages = UniformCohort(len(workers), size), [Stage(method, how.rounds)]
    rounds = stage_rounds(stages, made, cohort, how.seed, how.schedule, concurrency)
    names = tuple(classes) or tuple(map(str, range(find_highest_label(workers) + 1)))
    counts = len(workers), len((test or {}).get("unseen", {}))
    start = make_own_start(method, how, engine, names, counts)
    run = make_own_run(rounds, workers, folder, how, test or {}, start)
    with hold_folder(folder):
        try:
            return execute_run(run, folder, make_watchers(method, how, folder))
        finally:
            made.close()


def make_own_run(
    rounds: StagedRounds,
    workers: Mapping[int, Rows],
    folder: Path,
    how: TrainConfig,
    test: Mapping[str, Mapping[int, Rows]],
    start: Start,
) -> Run[State]:
    """Put together a run of one stage."""
    method = rounds.stages[0].method
    names = tuple(start.classes)
    groups = {name: transform_groups(group, method) for name, group in test.items()}
    opened = transform_groups(workers, method).__getitem__
    sample = sample_rows(opened, list(workers), CALIBRATION_ROWS, how.seed)
    mark = fingerprint_own_run(method, how, start.engine, workers)
    kept, last = folder / CHECKPOINTS, how.checkpoint.last

    def finish(state: State) -> None:
        params = method.calibrate(state.params, sample)
        note = {"recipe": "own", "method": method.name, "seed": how.seed, "round": state.round}
        predictor = make_predictor(method, params, make_own_input_spec(workers[0], names), note)
        write_model(predictor, folder / "final")

    return Run(
        rounds=rounds,
        count=how.rounds,
        check=check_state,
        evaluate=WholeEvaluation(rounds, groups, len(names), sample, Ranks()),
        checkpoints=WholeCheckpoints(kept, rounds, Ranks(), mark, "cpu", last),
        finish=finish,
        start=start,
        evaluate_every=how.evaluate_every,
        checkpoint=how.checkpoint,
    )


def check_training(workers: Mapping[int, Rows], how: TrainConfig) -> None:
    """Refuse numbers and engines that do not fit."""
    if how.engine in RANK_ENGINES:
        raise RunError(
            f"train() plays in one process, but engine={how.engine!r} uses several; choose auto, "
            "serial, vectorized or pool, or take Collective and Ranks as docs/cluster.md says"
        )
    if list(workers) != list(range(len(workers))) or not workers:
        raise ValueError(f"workers are {list(workers)[:5]}...; number them 0, 1, 2, ...")


def make_own_input_spec(rows: Rows, names: tuple[str, ...]) -> InputSpec:
    """Say what the model takes: rows like the first, which nobody scaled or projected."""
    first = rows.take(torch.zeros(1, dtype=torch.long))
    shape = tuple(first["x"].shape[1:])
    adapter = GraphAdapter(shape[0]) if "edges" in first else TableAdapter()
    scale = FeatureScale(torch.zeros(shape[0]), torch.ones(shape[0]))
    return InputSpec(shape, scale, names, adapter=adapter)


def make_watchers(method: Method, how: TrainConfig, folder: Path) -> list[Watcher]:
    """Say who looks on."""
    return [Progress(method.name, how.rounds), *make_event_writers(folder / "tensorboard", 0)]


def transform_groups(group: Mapping[int, Rows], method: Method) -> Mapping[int, Rows]:
    """See the rows of workers through a method's view."""
    if method.transform is None:
        return group
    return {worker: transform_rows(rows, method.transform) for worker, rows in group.items()}


def find_highest_label(workers: Mapping[int, Rows]) -> int:
    """Find the highest label of all workers."""
    return max(int(read_labels(rows).max()) for rows in workers.values())


def fingerprint_own_run(
    method: Method, how: TrainConfig, engine: str, workers: Mapping[int, Rows]
) -> str:
    """Tell a run from others by its method, plan and workers' sizes."""
    shapes = {name: list(t.shape) for name, t in method.model.params.items()}
    sizes = [rows.size for rows in workers.values()]
    told = repr((method.name, shapes, sizes, how.rounds, how.size, how.seed, engine, how.schedule))
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def make_own_start(
    method: Method,
    how: TrainConfig,
    engine: str,
    classes: Sequence[str],
    counts: tuple[int, int],
) -> Start:
    """Write the first line of a ledger; ``counts`` are workers seen and unseen."""
    return Start(
        recipe="own",
        method=method.name,
        seed=how.seed,
        engine=engine,
        device="cpu",
        rounds=how.rounds,
        command="moiety.train(...)",
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        config={"rounds": how.rounds, "size": how.size, "evaluate_every": how.evaluate_every},
        environment=describe_environment(),
        classes=list(classes),
        num_seen=counts[0],
        num_unseen=counts[1],
        seen=[],
        unseen=[],
        num_parameters=sum(t.numel() for t in method.model.params.values()),
        constant_bytes=count_bytes(method.constants),
    )
