"""A run of your own method, module and workers, with all that a run has."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import torch

from moiety.core.errors import RunError
from moiety.core.ledger import Start
from moiety.core.protocols import Method
from moiety.core.rows import SOME, Rows, look, some_of
from moiety.core.stage import Stage
from moiety.core.state import State, count_bytes
from moiety.data.dataset import Scale
from moiety.engine.choose import TOGETHER, choose, make
from moiety.rounds.asynchronous import Crew
from moiety.rounds.schedule import Pace
from moiety.run.cohort import Uniform
from moiety.run.environment import describe
from moiety.run.evaluate import labels
from moiety.run.loop import Keep, Run, Watcher, execute
from moiety.run.watch import Progress, boards
from moiety.serve.input_spec import Intake, Nodes, Tables
from moiety.serve.predictor import serve_method, write


@dataclass(frozen=True)
class Conduct:
    """How a run of your own goes.

    Args:
        rounds: of training.
        size: workers a round, drawn uniformly; 0 for all.
        seed: of the run.
        engine: ``auto``, ``serial``, ``vectorized`` or ``pool``.
        evaluate_every: rounds between evaluations.
        keep: of checkpoints.
        pace: when the server commits; ``size`` workers at a time where it does not wait for all.
    """

    rounds: int
    size: int = 0
    seed: int = 0
    engine: str = "auto"
    evaluate_every: int = 10
    keep: Keep = field(default_factory=Keep)
    pace: Pace = field(default_factory=Pace)


def train(
    method: Method,
    workers: Mapping[int, Rows],
    folder: str | Path,
    how: Conduct,
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
        The final state; ``moiety.load(folder)`` gives the model for use.

    Raises:
        ValueError: if workers are not numbered from 0.
        RunError: for what a user can mend.
    """
    check(workers, how)
    folder, size = Path(folder), how.size or len(workers)
    how.pace.check(size)
    engine = how.engine if how.engine != "auto" else choose(method, "cpu", size)
    groups = {name: through(group, method) for name, group in (test or {}).items()}
    names = tuple(classes) or tuple(map(str, range(highest(workers) + 1)))
    sample = some_of(through(workers, method).__getitem__, list(workers), SOME, how.seed)
    run = Run(
        stages=[Stage(method, how.rounds)],
        engine=make(engine, through(workers, method).__getitem__),
        roster=Uniform(len(workers), size),
        groups=groups,
        start=start_of(method, how, engine, names, groups, len(workers)),
        seed=how.seed,
        evaluate_every=how.evaluate_every,
        keep=how.keep,
        mark=mark_of(method, how, engine, workers),
        sample=sample,
        pace=how.pace,
        crew=Crew(len(workers), size),
    )
    folder.mkdir(parents=True, exist_ok=True)
    try:
        state = execute(run, folder, watchers(method, how, folder))
    finally:
        run.engine.close()
    note = {"recipe": "own", "method": method.name, "seed": how.seed, "round": state.round}
    params = method.calibrate(state.params, sample)
    write(serve_method(method, params, intake_of(workers[0], names), note), folder / "final")
    return state


def check(workers: Mapping[int, Rows], how: Conduct) -> None:
    """Refuse numbers and engines that do not fit."""
    if how.engine in TOGETHER:
        raise RunError(
            f"train() plays in one process, but engine={how.engine!r} uses several; choose auto, "
            "serial, vectorized or pool, or take Collective and Ranks as docs/cluster.md says"
        )
    if list(workers) != list(range(len(workers))) or not workers:
        raise ValueError(f"workers are {list(workers)[:5]}...; number them 0, 1, 2, ...")


def intake_of(rows: Rows, names: tuple[str, ...]) -> Intake:
    """Say what the model takes: rows like the first, which nobody scaled or projected."""
    first = rows.take(torch.zeros(1, dtype=torch.long))
    shape = tuple(first["x"].shape[1:])
    medium = Nodes(shape[0]) if "edges" in first else Tables()
    scale = Scale(torch.zeros(shape[0]), torch.ones(shape[0]))
    return Intake(shape, scale, names, medium=medium)


def watchers(method: Method, how: Conduct, folder: Path) -> list[Watcher]:
    """Say who looks on."""
    return [Progress(method.name, how.rounds), *boards(folder / "tensorboard", 0)]


def through(group: Mapping[int, Rows], method: Method) -> Mapping[int, Rows]:
    """See the rows of workers through a method's view."""
    if method.view is None:
        return group
    return {worker: look(rows, method.view) for worker, rows in group.items()}


def highest(workers: Mapping[int, Rows]) -> int:
    """Find the highest label of all workers."""
    return max(int(labels(rows).max()) for rows in workers.values())


def mark_of(method: Method, how: Conduct, engine: str, workers: Mapping[int, Rows]) -> str:
    """Tell a run from others by its method, plan and workers' sizes."""
    shapes = {name: list(t.shape) for name, t in method.model.params.items()}
    sizes = [rows.size for rows in workers.values()]
    told = repr((method.name, shapes, sizes, how.rounds, how.size, how.seed, engine, how.pace))
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def start_of(
    method: Method,
    how: Conduct,
    engine: str,
    classes: Sequence[str],
    groups: Mapping[str, Mapping[int, Rows]],
    count: int,
) -> Start:
    """Write the first line of a ledger."""
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
        environment=describe(),
        classes=list(classes),
        num_seen=count,
        num_unseen=len(groups.get("unseen", {})),
        seen=[],
        unseen=[],
        num_parameters=sum(t.numel() for t in method.model.params.values()),
        constant_bytes=count_bytes(method.constants),
    )
