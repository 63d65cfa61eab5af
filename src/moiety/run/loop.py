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
from moiety.core.ledger import End, Evaluation, LedgerEntry, Round, Start
from moiety.core.policy import CheckpointPolicy
from moiety.core.protocols import Engine, Method
from moiety.core.rows import Rows
from moiety.core.stage import Stage, find_stage
from moiety.core.state import State
from moiety.engine.collective import gather_memory
from moiety.engine.ranks import Ranks
from moiety.rounds.asynchronous import (
    AsyncPlan,
    Concurrency,
    await_commit,
    record_job_seconds,
    wait_for_slowest,
    weigh_replies,
)
from moiety.rounds.commit import commit_replies
from moiety.rounds.schedule import Schedule
from moiety.rounds.synchronous import Dispatch, initialise_state, make_jobs, query_jobs
from moiety.run import checkpoint as checkpoints
from moiety.run.checkpoint import Checkpoint
from moiety.run.cohort import CohortRule
from moiety.run.errors import explain_failure
from moiety.run.evaluate import average_accuracy, evaluate_groups
from moiety.run.finite import agree_finite, check_finite
from moiety.run.ledger import TrafficMeter, append_entry, cut_ledger, sync_ledger
from moiety.solve.sgd import OWN

LEDGER, CHECKPOINTS = "ledger.jsonl", "checkpoints"


class Watcher(Protocol):
    """Sees every entry of the ledger as it is written: a progress line, TensorBoard."""

    def __call__(self, entry: LedgerEntry, /) -> None: ...


@dataclass(frozen=True)
class Run:
    """Everything that one run is made of.

    Args:
        stages: methods and their rounds.
        engine: runs the jobs.
        cohort: who takes part.
        groups: group -> worker -> labelled rows to evaluate on.
        start: the first line of the ledger.
        seed: of the run.
        evaluate_every: rounds between evaluations.
        checkpoint: of checkpoints.
        fingerprint: what tells this recipe from others.
        sample: some training rows, for methods whose whole must be calibrated.
        schedule: when the server commits.
        concurrency: how many work at a time, and who may where there is no roster: without waiting.
        ranks: who plays this run alike; rank 0 alone writes.
    """

    stages: Sequence[Stage]
    engine: Engine
    cohort: CohortRule
    groups: Mapping[str, Mapping[int, Rows]]
    start: Start
    seed: int
    evaluate_every: int
    checkpoint: CheckpointPolicy
    fingerprint: str
    sample: Rows | None = None
    schedule: Schedule = field(default_factory=Schedule)
    concurrency: Concurrency | None = None
    ranks: Ranks = field(default_factory=Ranks)

    @property
    def rounds(self) -> int:
        """Rounds of all stages."""
        return sum(stage.rounds for stage in self.stages)


def execute_run(
    run: Run, folder: Path, watch: Sequence[Watcher] = (), at: int | None = None
) -> State:
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
    run.checkpoint.check()
    state, best, fresh = restore_all_ranks(run, folder, at)
    ledger, place = folder / LEDGER, state.round

    def note(entry: LedgerEntry) -> int:
        nonlocal place
        place = entry.round if isinstance(entry, Round) else place
        size = append_entry(ledger, entry) if run.ranks.leads else 0
        for watcher in watch:
            watcher(entry)
        return size

    if fresh:
        size = note(run.start)
        if run.rounds:
            save_checkpoint(run, folder, state, size, None)
    begun = time.perf_counter()
    try:
        with catch_interrupts() as asked:
            state = play_remaining(run, folder, state, best, note, asked)
    except (RuntimeError, ValueError, MemoryError) as error:  # of a worker, the engine, or a choice
        note(End(place, time.perf_counter() - begun, "failed", str(error)))
        raise explain_failure(error, folder, run.ranks.size) from error
    note(End(state.round, time.perf_counter() - begun, "finished"))
    return state


def restore_all_ranks(run: Run, folder: Path, at: int | None) -> tuple[State, float | None, bool]:
    """Find where the run stands and whether its ledger is still to be begun: rank 0 looks."""
    found: tuple[State, float | None, bool] | RunError | None = None
    if run.ranks.leads:
        try:
            state, score = restore_run(run, folder, at)
            found = state, score, not (folder / LEDGER).exists()
        except RunError as error:
            found = error
    found = run.ranks.share(found)
    memory = run.ranks.share(dict(run.engine.memory))
    if found is None or isinstance(found, RunError):
        raise found or RunError("rank 0 found nothing")
    run.engine.memory.update(memory)
    return found


def restore_run(run: Run, folder: Path, at: int | None) -> tuple[State, float | None]:
    """Find where the run stands: its checkpoint, or the beginning."""
    paths = checkpoints.list_checkpoints(folder / CHECKPOINTS)
    if at is not None:
        paths = [path for path in paths if int(path.name) == at]
        if not paths:
            have = [int(path.name) for path in checkpoints.list_checkpoints(folder / CHECKPOINTS)]
            raise RunError(f"{folder} has no checkpoint of round {at}; it has {have}")
    if not paths:
        if (folder / LEDGER).exists():
            (folder / LEDGER).unlink()
        return initialise_state(run.stages[0].method), None
    kept = checkpoints.read_checkpoint(paths[-1], run.fingerprint)
    # In this order: a kill in between must not leave checkpoints ahead of the ledger.
    checkpoints.drop_later_checkpoints(folder / CHECKPOINTS, kept.state.round)
    cut_ledger(folder / LEDGER, kept.ledger_bytes)
    kept = checkpoints.move_checkpoint(kept, run.start.device)
    run.engine.memory.clear()
    run.engine.memory.update(kept.memory)
    return kept.state, kept.score


def play_remaining(
    run: Run,
    folder: Path,
    state: State,
    score: float | None,
    note: Callable[[LedgerEntry], int],
    asked: Callable[[], bool],
) -> State:
    """Play the rounds that are left."""
    if not run.rounds and not state.round:
        note(evaluate_run(run, run.stages[0].method, state))
    while True:
        stage, state = find_stage(run.stages, state)
        if stage is None:
            return state
        state, size = play_metered_round(run, stage.method, state, note)
        check_finite(state.params, state.round)
        last = state.round == run.rounds
        if last or state.round % run.evaluate_every == 0:
            entry = evaluate_run(run, stage.method, state)
            score = average_accuracy(entry, "validation")
            size = note(entry)
        stop = run.ranks.agree(wish=asked())
        if last or stop or state.round % run.checkpoint.every == 0:
            save_checkpoint(run, folder, state, size, score)
        if stop:
            note(End(state.round, 0.0, "interrupted", "stopped by the user"))
            raise KeyboardInterrupt


def play_metered_round(
    run: Run, method: Method, state: State, note: Callable[[LedgerEntry], int]
) -> tuple[State, int]:
    """Play one round, metered; the round of ``core.play`` with its streams counted."""
    if not run.schedule.is_synchronous:
        return play_async_round(run, method, state, note)
    begun, meter = time.perf_counter(), TrafficMeter()
    cohort = run.cohort(state.round, run.seed)
    answers = {}
    if method.query is not None:
        asked = meter.sent(query_jobs(method, state, cohort, run.seed))
        told = meter.count_replies(run.engine.map(method.query.solve, asked))
        answers = {reply.worker: reply.answer for reply in told}
    dispatch = Dispatch(concurrency=run.concurrency.limit if run.concurrency else 0)
    jobs = meter.sent(make_jobs(method, state, cohort, answers, run.seed, dispatch))
    job_seconds: dict[int, float] = {}
    jobs = (
        record_job_seconds(run.schedule, state, jobs, job_seconds)
        if run.schedule.has_clock
        else jobs
    )
    state = commit_replies(method, state, meter.done(run.engine.map(method.solve, jobs)))
    state = replace(state, clock=wait_for_slowest(state.clock, job_seconds))
    return state, note(meter.make_entry(method, state, time.perf_counter() - begun))


def play_async_round(
    run: Run, method: Method, state: State, note: Callable[[LedgerEntry], int]
) -> tuple[State, int]:
    """Play one asynchronous round, metered; the round of ``core.flight``."""
    assert run.concurrency is not None
    begun = time.perf_counter()
    async_plan = AsyncPlan(method, run.engine, run.schedule, run.concurrency, run.seed)
    state, arrived = await_commit(async_plan, state)
    cost = {job.worker: job.down_bytes for job in arrived.jobs}
    meter = TrafficMeter(dict(arrived.down), dict(arrived.up), jobs=cost)
    replies = meter.done(run.engine.map(method.solve, arrived.jobs))
    state = commit_replies(method, state, weigh_replies(async_plan, state, arrived.jobs, replies))
    return state, note(meter.make_entry(method, state, time.perf_counter() - begun))


def evaluate_run(run: Run, method: Method, state: State) -> Evaluation:
    """Evaluate where the run stands; rank 0 does, of the others no group is asked."""
    own = {w: kept for w, kept in run.engine.memory.items() if OWN in kept}
    memory, leads = gather_memory(own, run.ranks), run.ranks.leads
    params = method.calibrate(state.params, run.sample) if leads else state.params
    added = {name: t for name, t in params.items() if t is not state.params.get(name)}
    agree_finite(run.ranks, added, state.round)  # the others were looked at after the round
    groups = run.groups if leads else {}
    return evaluate_groups(
        method, replace(state, params=params), memory, groups, len(run.start.classes)
    )


def save_checkpoint(run: Run, folder: Path, state: State, size: int, score: float | None) -> None:
    """Write a checkpoint, then drop those that are not kept."""
    where, memory = folder / CHECKPOINTS, gather_memory(run.engine.memory, run.ranks)
    if not run.ranks.leads:
        return
    sync_ledger(folder / LEDGER)
    checkpoints.write_checkpoint(where, Checkpoint(state, memory, size, score, run.fingerprint))
    checkpoints.prune_checkpoints(where, run.checkpoint.last)


@contextmanager
def catch_interrupts() -> Iterator[Callable[[], bool]]:
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
