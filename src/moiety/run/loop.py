"""The loop of every run: rounds, evaluations, checkpoints; it can stop at any moment and go on."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Generic, Protocol, TypeVar

import torch

from moiety.core.checkpoints import CheckpointPolicy, drop_later_checkpoints
from moiety.core.errors import RunError
from moiety.core.ledger import End, Evaluation, LedgerEntry, Round, Start
from moiety.core.objective import Metric
from moiety.engine.ranks import Ranks
from moiety.rounds.staged import Rounds
from moiety.run.errors import explain_failure
from moiety.run.evaluate import rate_evaluation
from moiety.run.ledger import append_entry, cut_ledger, find_ledger_fault, sync_ledger

EVALUATIONS = 10
"""Evaluations of a run after its first round, at least, where nothing else is chosen."""

LEDGER, CHECKPOINTS = "ledger.jsonl", "checkpoints"


class Counted(Protocol):
    """What survives a round; it knows how many were played."""

    @property
    def round(self) -> int: ...


S = TypeVar("S", bound=Counted)


@dataclass(frozen=True)
class Restored(Generic[S]):
    """Where a run stands.

    Args:
        state: what the rounds go on from.
        ledger_bytes: length of the ledger at its checkpoint; None where the run begins.
        score: how good it was on validation rows at the evaluation before that, if there was one;
            more is better.
    """

    state: S
    ledger_bytes: int | None = None
    score: float | None = None


class Checkpoints(Protocol[S]):
    """Where a run is kept between rounds; all ranks call alike."""

    def restore(self, at: int | None, /) -> Restored[S]:
        """Find where the run stands: its newest checkpoint, that of a round, or the beginning.

        Raises:
            RunError: if there is no such checkpoint, or it is damaged or of another run.
        """
        ...

    def save(self, kept: Restored[S], /) -> None:
        """Write a checkpoint, then drop those that are not kept."""
        ...


class Watcher(Protocol):
    """Sees every entry of the ledger as it is written: a progress line, TensorBoard."""

    def __call__(self, entry: LedgerEntry, /) -> None: ...


@dataclass(frozen=True)
class Run(Generic[S]):
    """Everything that one run is made of.

    Args:
        rounds: play it.
        count: of rounds in all.
        check: refuses, with an error, what is no model any more.
        evaluate: says how good the model is where the run stands.
        checkpoints: keep it.
        finish: writes the final model.
        start: the first line of the ledger.
        evaluate_every: rounds between evaluations.
        checkpoint: when to write checkpoints.
        metric: by which the best checkpoint is kept.
        ranks: who plays this run alike; rank 0 alone writes the ledger.
    """

    rounds: Rounds[S]
    count: int
    check: Callable[[S], None]
    evaluate: Callable[[S], Evaluation]
    checkpoints: Checkpoints[S]
    finish: Callable[[S], None]
    start: Start
    evaluate_every: int
    checkpoint: CheckpointPolicy
    metric: Metric
    ranks: Ranks = field(default_factory=Ranks)


@dataclass
class LedgerWriter:
    """Adds entries to a ledger, at the rank that leads, and shows them to those who look on.

    Args:
        path: of the ledger.
        ranks: who plays the run.
        watch: see the entries.
        round: the last one written down.
        size: bytes of the ledger.
    """

    path: Path
    ranks: Ranks
    watch: Sequence[Watcher]
    round: int = 0
    size: int = 0

    def write(self, entry: LedgerEntry) -> None:
        """Add an entry."""
        self.round = entry.round if isinstance(entry, Round) else self.round
        if self.ranks.leads:
            self.size = append_entry(self.path, entry)
            for watcher in self.watch:
                watcher(entry)

    def sync(self) -> None:
        """Make what was written last."""
        if self.ranks.leads:
            sync_ledger(self.path)


def execute_run(
    run: Run[S], folder: Path, watch: Sequence[Watcher] = (), at: int | None = None
) -> S:
    """Play a run, from its newest checkpoint if it has one, and write its final model.

    Args:
        run: what to play.
        folder: of the run.
        watch: sees the ledger's entries.
        at: resume from the checkpoint of this round instead of the newest.

    Returns:
        What the last round left.

    Raises:
        RunError: for what a user can mend, with the last checkpoint kept.
        KeyboardInterrupt: after Ctrl-C, once a checkpoint is written.
    """
    run.checkpoint.check()
    kept = run.checkpoints.restore(at)
    ledger = open_ledger(run, folder, watch, kept)
    begun = time.perf_counter()
    try:
        with catch_interrupts() as asked:
            state = play_remaining(run, kept, ledger, asked)
        run.finish(state)
    except (RuntimeError, ValueError, MemoryError) as error:  # of a worker, the engine, a choice
        ledger.write(End(ledger.round, time.perf_counter() - begun, "failed", str(error)))
        raise explain_failure(error, folder, run.ranks.size) from error
    ledger.write(End(state.round, time.perf_counter() - begun, "finished"))
    return state


def open_ledger(
    run: Run[S], folder: Path, watch: Sequence[Watcher], kept: Restored[S]
) -> LedgerWriter:
    """Cut the ledger where the checkpoint says, or begin it anew.

    Raises:
        RunError: if the ledger is not the one that the checkpoint was written beside; nothing is
            given up then.
    """
    ledger = LedgerWriter(folder / LEDGER, run.ranks, watch, kept.state.round)
    if kept.ledger_bytes is not None:
        leads, ledger.size = run.ranks.leads, kept.ledger_bytes
        fault = run.ranks.broadcast(find_ledger_fault(ledger.path, ledger.size) if leads else None)
        if fault is not None:
            raise RunError(fault)
        if leads:
            # In this order: a kill in between must not leave checkpoints ahead of the ledger.
            drop_later_checkpoints(folder / CHECKPOINTS, kept.state.round)
            cut_ledger(ledger.path, ledger.size)
        return ledger
    if run.ranks.leads:
        ledger.path.unlink(missing_ok=True)
    ledger.write(run.start)
    return ledger


def choose_interval(every: int, rounds: int) -> int:
    """Choose the rounds between evaluations; 0 asks for ten of them, or more.

    >>> choose_interval(0, 200), choose_interval(0, 25), choose_interval(0, 3)
    (20, 2, 1)
    """
    return every or max(1, rounds // EVALUATIONS)


def begin_rounds(run: Run[S], kept: Restored[S], ledger: LedgerWriter) -> float | None:
    """Evaluate what the rounds begin with, and keep it; give the score on validation rows."""
    found = run.evaluate(kept.state)
    score = rate_evaluation(found, run.metric)
    ledger.write(found)
    if run.count:
        ledger.sync()
        run.checkpoints.save(Restored(kept.state, ledger.size, score))
    return score


def play_remaining(
    run: Run[S], kept: Restored[S], ledger: LedgerWriter, asked: Callable[[], bool]
) -> S:
    """Play the rounds that are left."""
    state, score = kept.state, kept.score
    if kept.ledger_bytes is None:
        score = begin_rounds(run, kept, ledger)
    while state.round < run.count:
        state, entry = run.rounds.advance(state)
        run.check(state)
        sent = run.ranks.add_up(torch.tensor(entry.sent_bytes))
        entry = replace(entry, sent_bytes=int(sent))
        last = state.round == run.count
        if last or state.round % run.evaluate_every == 0:
            found = run.evaluate(state)
            score = rate_evaluation(found, run.metric)
            ledger.write(replace(entry, evaluate_s=found.seconds))
            ledger.write(found)
        else:
            ledger.write(entry)
        stop = run.ranks.agree(wish=asked())
        if last or stop or state.round % run.checkpoint.every == 0:
            ledger.sync()
            run.checkpoints.save(Restored(state, ledger.size, score))
        if stop:
            ledger.write(End(state.round, 0.0, "interrupted", "stopped by the user"))
            raise KeyboardInterrupt
    return state


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
