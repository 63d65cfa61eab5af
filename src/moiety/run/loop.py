"""The loop of every run: rounds, evaluations, checkpoints; it can stop at any moment and go on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch

from moiety.core.checkpoints import CheckpointPolicy, drop_later_checkpoints
from moiety.core.errors import RunError
from moiety.core.keep import BEST, Judged, Keep, count_stalled, find_best, is_over
from moiety.core.ledger import End, Evaluation, Start
from moiety.core.objective import Metric
from moiety.engine.ranks import Ranks
from moiety.rounds.staged import Rounds
from moiety.run.errors import explain_failure
from moiety.run.evaluate import rate_evaluation
from moiety.run.interrupts import catch_interrupts
from moiety.run.ledger import LedgerWriter, Watcher, cut_ledger, find_ledger_fault
from moiety.run.scores import read_scores, refuse_lost_best

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
        keep: which model is the final one, and when the run ends early.
        ending: why ``count`` is less than was wished, where it is.
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
    keep: Keep = field(default_factory=Keep)
    ending: str = ""


@dataclass(frozen=True)
class Played(Generic[S]):
    """How far a run came.

    Args:
        state: what its last round left.
        scores: of its evaluations, where they choose anything.
        reason: why it ended before its last round.
        stopped: somebody stopped it, and there is no final model yet.
    """

    state: S
    scores: Sequence[Judged] = ()
    reason: str = ""
    stopped: bool = False


def execute_run(
    run: Run[S], folder: Path, watch: Sequence[Watcher] = (), at: int | None = None
) -> S:
    """Play a run, from its newest checkpoint if it has one, and write its final model.

    Args:
        run: what to play.
        folder: of the run.
        watch: sees the ledger's entries, and may ask for an end. What one of them raises is raised
            here, after the round and with a checkpoint of it.
        at: resume from the checkpoint of this round instead of the newest.

    Returns:
        What the final model was written of: the last round's, or the best.

    Raises:
        RunError: for what a user can mend, with the last checkpoint kept.
        KeyboardInterrupt: after Ctrl-C, once a checkpoint is written.
    """
    run.checkpoint.check()
    kept = run.checkpoints.restore(at)
    if at is not None and run.keep.final == BEST:
        known = read_scores(folder / LEDGER, run.metric, run.ranks)
        refuse_lost_best(known, folder / CHECKPOINTS, at, run.ranks)
    ledger = open_ledger(run, folder, watch, kept)
    begun = time.perf_counter()
    try:
        with catch_interrupts() as asked:
            played = play_remaining(run, kept, ledger, asked)
        final = choose_final(run, played)
        if not played.stopped:
            run.finish(final)
    except (RuntimeError, ValueError, MemoryError) as error:  # of a worker, the engine, a choice
        ledger.write(End(ledger.round, time.perf_counter() - begun, "failed", str(error)))
        raise explain_failure(error, folder, run.ranks.size) from error
    seconds, done = time.perf_counter() - begun, played.state.round
    if played.stopped:
        ledger.write(End(done, seconds, "interrupted", played.reason))
        raise ledger.raised or KeyboardInterrupt
    ledger.write(End(done, seconds, "finished", played.reason, final.round))
    if ledger.raised is not None:
        raise ledger.raised
    return final


def choose_final(run: Run[S], played: Played[S]) -> S:
    """Choose what the final model is written of."""
    if played.stopped or run.keep.final != BEST:
        return played.state
    best = find_best(played.scores)
    if best.round == played.state.round:
        return played.state
    return run.checkpoints.restore(best.round).state


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


def judge_state(run: Run[S], state: S) -> tuple[Evaluation, float | None]:
    """Evaluate where a run stands; give the score on validation rows, for all ranks alike.

    Raises:
        ValueError: if there is none, and models are chosen by it.
    """
    found = run.evaluate(state)
    score = rate_evaluation(found, run.metric)
    if not run.keep.chooses:
        return found, score
    score = run.ranks.broadcast(score)
    if score is None or math.isnan(score):
        raise ValueError(
            f"keep.final={run.keep.final!r}, keep.patience={run.keep.patience}: after round "
            f"{state.round} the validation rows give no {run.metric.name}; choose another metric, "
            "or keep.final='last' and keep.patience=0"
        )
    return found, score


def begin_rounds(run: Run[S], kept: Restored[S], ledger: LedgerWriter) -> float | None:
    """Evaluate what the rounds begin with, and keep it; give the score on validation rows."""
    found, score = judge_state(run, kept.state)
    ledger.write(found)
    if run.count:
        ledger.sync()
        run.checkpoints.save(Restored(kept.state, ledger.size, score))
    return score


def play_remaining(
    run: Run[S], kept: Restored[S], ledger: LedgerWriter, asked: Callable[[], bool]
) -> Played[S]:
    """Play the rounds that are left, or those until somebody stops the run, or nothing improves."""
    state, score, stop = kept.state, kept.score, False
    if kept.ledger_bytes is None:
        score = begin_rounds(run, kept, ledger)
        stop = run.ranks.agree(wish=ledger.asks)
    scores = read_scores(ledger.path, run.metric, run.ranks) if run.keep.chooses else []
    while state.round < run.count and not stop and not is_over(run.keep, scores):
        state, entry = run.rounds.advance(state)
        run.check(state)
        sent = run.ranks.add_up(torch.tensor(entry.sent_bytes))
        entry, better = replace(entry, sent_bytes=int(sent)), False
        if state.round == run.count or state.round % run.evaluate_every == 0:
            found, score = judge_state(run, state)
            ledger.write(replace(entry, evaluate_s=found.seconds))
            ledger.write(found)
            if run.keep.chooses and score is not None:
                scores = [*scores, Judged(state.round, score)]
                better = run.keep.final == BEST and find_best(scores) is scores[-1]
        else:
            ledger.write(entry)
        stop = run.ranks.agree(wish=asked() or ledger.asks)
        last = stop or state.round == run.count or is_over(run.keep, scores)
        if last or better or state.round % run.checkpoint.every == 0:
            ledger.sync()
            run.checkpoints.save(Restored(state, ledger.size, score))
    return end_rounds(run, Played(state, scores), ledger, stop=stop)


def end_rounds(run: Run[S], played: Played[S], ledger: LedgerWriter, *, stop: bool) -> Played[S]:
    """Say why no more rounds are played."""
    if stop and not run.ranks.broadcast(ledger.wished):
        raised = ledger.raised
        told = f"who watched it raised {type(raised).__name__}: {raised}" if raised else ""
        return replace(played, reason=told or "stopped by the user", stopped=True)
    if played.state.round >= run.count:
        return replace(played, reason=run.ending)
    stalled = f"no better for {count_stalled(played.scores, run.keep.improvement)} evaluations"
    return replace(played, reason="ended by who watched it" if stop else stalled)
