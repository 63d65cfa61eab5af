"""The loop of one run: rounds, evaluations, checkpoints; it can stop at any moment and go on."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Protocol

from moiety.core.errors import RunError
from moiety.core.ledger import End, Entry, Evaluation, Round, Start
from moiety.core.protocols import Engine, Method
from moiety.core.rows import Rows
from moiety.core.stage import Stage, current
from moiety.core.state import State
from moiety.engine.collective import collected
from moiety.engine.ranks import Ranks
from moiety.rounds.asynchronous import Course, Crew, gather, timed, waited, weigh
from moiety.rounds.schedule import Pace
from moiety.rounds.synchronous import Wave, begin, commit, dispatch, questions
from moiety.run import checkpoint as checkpoints
from moiety.run.checkpoint import Checkpoint
from moiety.run.cohort import Roster
from moiety.run.errors import failure
from moiety.run.evaluate import evaluate, mean_accuracy
from moiety.run.finite import agree_finite, check_finite
from moiety.run.ledger import Meter, append, cut, settle
from moiety.solve.sgd import OWN

LEDGER, CHECKPOINTS = "ledger.jsonl", "checkpoints"


class Watcher(Protocol):
    """Sees every entry of the ledger as it is written: a progress line, TensorBoard."""

    def __call__(self, entry: Entry, /) -> None: ...


@dataclass(frozen=True)
class Keep:
    """When to write checkpoints and how many to keep.

    Args:
        every: rounds between checkpoints.
        last: how many of the last to keep; the best by validation accuracy is kept besides.
    """

    every: int = 10
    last: int = 2

    def __post_init__(self) -> None:
        if self.every < 1 or self.last < 1:
            raise ValueError(f"keep needs every >= 1 and last >= 1, got {self}")


@dataclass(frozen=True)
class Run:
    """Everything that one run is made of.

    Args:
        stages: methods and their rounds.
        engine: runs the jobs.
        roster: who takes part.
        groups: group -> worker -> labelled rows to evaluate on.
        start: the first line of the ledger.
        seed: of the run.
        evaluate_every: rounds between evaluations.
        keep: of checkpoints.
        mark: what tells this recipe from others.
        sample: some training rows, for methods whose whole must be calibrated.
        pace: when the server commits.
        crew: how many work at a time, and who may where there is no roster: without waiting.
        ranks: who plays this run alike; rank 0 alone writes.
    """

    stages: Sequence[Stage]
    engine: Engine
    roster: Roster
    groups: Mapping[str, Mapping[int, Rows]]
    start: Start
    seed: int
    evaluate_every: int
    keep: Keep
    mark: str
    sample: Rows | None = None
    pace: Pace = field(default_factory=Pace)
    crew: Crew | None = None
    ranks: Ranks = field(default_factory=Ranks)

    @property
    def rounds(self) -> int:
        """Rounds of all stages."""
        return sum(stage.rounds for stage in self.stages)


def execute(run: Run, folder: Path, watch: Sequence[Watcher] = (), at: int | None = None) -> State:
    """Play a run, from its newest checkpoint if it has one.

    Args:
        run: what to play.
        folder: of the run.
        watch: sees the ledger's entries.
        at: resume from the checkpoint of this round instead of the newest.

    Returns:
        The final state.

    Raises:
        RunError: for what a user can mend, with the state of the last checkpoint kept.
        KeyboardInterrupt: after Ctrl-C, once a checkpoint is written.
    """
    state, best, fresh = stand(run, folder, at)
    ledger, place = folder / LEDGER, state.round

    def note(entry: Entry) -> int:
        nonlocal place
        place = entry.round if isinstance(entry, Round) else place
        size = append(ledger, entry) if run.ranks.leads else 0
        for watcher in watch:
            watcher(entry)
        return size

    if fresh:
        size = note(run.start)
        if run.rounds:
            save(run, folder, state, size, None)
    begun = time.perf_counter()
    try:
        with stopping() as asked:
            state = play_on(run, folder, state, best, note, asked)
    except (RuntimeError, ValueError) as error:  # of a worker, the engine, or a choice
        note(End(place, time.perf_counter() - begun, "failed", str(error)))
        raise failure(error, folder, run.ranks.size) from error
    note(End(state.round, time.perf_counter() - begun, "finished"))
    return state


def stand(run: Run, folder: Path, at: int | None) -> tuple[State, float | None, bool]:
    """Find where the run stands and whether its ledger is still to be begun: rank 0 looks."""
    found: tuple[State, float | None, bool] | RunError | None = None
    if run.ranks.leads:
        try:
            state, score = restore(run, folder, at)
            found = state, score, not (folder / LEDGER).exists()
        except RunError as error:
            found = error
    found = run.ranks.share(found)
    memory = run.ranks.share(dict(run.engine.memory))
    if found is None or isinstance(found, RunError):
        raise found or RunError("rank 0 found nothing")
    run.engine.memory.update(memory)
    return found


def restore(run: Run, folder: Path, at: int | None) -> tuple[State, float | None]:
    """Find where the run stands: its checkpoint, or the beginning."""
    paths = checkpoints.found(folder / CHECKPOINTS)
    if at is not None:
        paths = [path for path in paths if int(path.name) == at]
        if not paths:
            have = [int(path.name) for path in checkpoints.found(folder / CHECKPOINTS)]
            raise RunError(f"{folder} has no checkpoint of round {at}; it has {have}")
    if not paths:
        if (folder / LEDGER).exists():
            (folder / LEDGER).unlink()
        return begin(run.stages[0].method), None
    kept = checkpoints.read(paths[-1], run.mark)
    # In this order: a kill in between must not leave checkpoints ahead of the ledger.
    checkpoints.forget(folder / CHECKPOINTS, kept.state.round)
    cut(folder / LEDGER, kept.ledger_bytes)
    kept = checkpoints.move(kept, run.start.device)
    run.engine.memory.clear()
    run.engine.memory.update(kept.memory)
    return kept.state, kept.score


def play_on(
    run: Run,
    folder: Path,
    state: State,
    score: float | None,
    note: Callable[[Entry], int],
    asked: Callable[[], bool],
) -> State:
    """Play the rounds that are left."""
    if not run.rounds and not state.round:
        note(judge(run, run.stages[0].method, state))
    while True:
        stage, state = current(run.stages, state)
        if stage is None:
            return state
        state, size = play_round(run, stage.method, state, note)
        check_finite(state.params, state.round)
        last = state.round == run.rounds
        if last or state.round % run.evaluate_every == 0:
            entry = judge(run, stage.method, state)
            score = mean_accuracy(entry, "validation")
            size = note(entry)
        stop = run.ranks.agree(wish=asked())
        if last or stop or state.round % run.keep.every == 0:
            save(run, folder, state, size, score)
        if stop:
            note(End(state.round, 0.0, "interrupted", "stopped by the user"))
            raise KeyboardInterrupt


def play_round(
    run: Run, method: Method, state: State, note: Callable[[Entry], int]
) -> tuple[State, int]:
    """Play one round, metered; the round of ``core.play`` with its streams counted."""
    if not run.pace.waits:
        return play_commit(run, method, state, note)
    begun, meter = time.perf_counter(), Meter()
    roster = run.roster(state.round, run.seed)
    hints = {}
    if method.probe is not None:
        asked = meter.sent(questions(method, state, roster, run.seed))
        told = meter.got(run.engine.map(method.probe.solve, asked))
        hints = {reply.worker: reply.hint for reply in told}
    wave = Wave(places=run.crew.places if run.crew else 0)
    jobs = meter.sent(dispatch(method, state, roster, hints, run.seed, wave))
    took: dict[int, float] = {}
    jobs = timed(run.pace, state, jobs, took) if run.pace.ticks else jobs
    state = commit(method, state, meter.done(run.engine.map(method.solve, jobs)))
    state = replace(state, clock=waited(state.clock, took))
    return state, note(meter.entry(method, state, time.perf_counter() - begun))


def play_commit(
    run: Run, method: Method, state: State, note: Callable[[Entry], int]
) -> tuple[State, int]:
    """Play one asynchronous round, metered; the round of ``core.flight``."""
    assert run.crew is not None
    begun = time.perf_counter()
    course = Course(method, run.engine, run.pace, run.crew, run.seed)
    state, due = gather(course, state)
    cost = {job.worker: job.down_bytes for job in due.jobs}
    meter = Meter(dict(due.down), dict(due.up), jobs=cost)
    replies = meter.done(run.engine.map(method.solve, due.jobs))
    state = commit(method, state, weigh(course, state, due.jobs, replies))
    return state, note(meter.entry(method, state, time.perf_counter() - begun))


def judge(run: Run, method: Method, state: State) -> Evaluation:
    """Evaluate where the run stands; rank 0 does, of the others no group is asked."""
    own = {w: kept for w, kept in run.engine.memory.items() if OWN in kept}
    memory, leads = collected(own, run.ranks), run.ranks.leads
    params = method.calibrate(state.params, run.sample) if leads else state.params
    added = {name: t for name, t in params.items() if t is not state.params.get(name)}
    agree_finite(run.ranks, added, state.round)  # the others were looked at after the round
    groups = run.groups if leads else {}
    return evaluate(method, replace(state, params=params), memory, groups, len(run.start.classes))


def save(run: Run, folder: Path, state: State, size: int, score: float | None) -> None:
    """Write a checkpoint, then drop those that are not kept."""
    where, memory = folder / CHECKPOINTS, collected(run.engine.memory, run.ranks)
    if not run.ranks.leads:
        return
    settle(folder / LEDGER)
    checkpoints.write(where, Checkpoint(state, memory, size, score, run.mark))
    checkpoints.prune(where, run.keep.last)


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Let a first Ctrl-C ask for a stop after the round, a second stop at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number: int, frame: FrameType | None) -> None:
        del number, frame
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        os.write(2, b"\nstopping after this round; Ctrl-C again to stop at once\n")

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
