"""A run of which no rank ever has the whole model: ``--engine partitioned``, under ``torchrun``."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from moiety.blocks.checkpoint import load_blocks, save_blocks, write_whole
from moiety.blocks.partitioned import Partitioned, check_partitioned
from moiety.blocks.peers import update_blocks
from moiety.blocks.shards import Shards
from moiety.core.errors import RunError
from moiety.core.files import digest_file, replace_file
from moiety.core.ledger import (
    End,
    Evaluation,
    Group,
    LedgerEntry,
    Round,
    Start,
    encode_entry,
    read_ledger,
)
from moiety.core.policy import CheckpointPolicy
from moiety.core.protocols import skip_calibration
from moiety.core.rows import Rows, chunk_positions
from moiety.core.state import Reply, State
from moiety.core.types import Params
from moiety.engine.ranks import Ranks
from moiety.run.cohort import CohortRule
from moiety.run.errors import explain_failure
from moiety.run.evaluate import Score, mean_or_nan
from moiety.run.finite import agree_finite
from moiety.run.ledger import TrafficMeter, append_entry, sync_ledger
from moiety.run.loop import CHECKPOINTS, LEDGER, Watcher, catch_interrupts
from moiety.serve.predictor import CONFIG, MODEL, config_to_bytes


@dataclass(frozen=True)
class BlockRun:
    """Everything that a run in blocks is made of; the fields of ``Run`` where they are alike.

    Args:
        play: the rounds; its method's model has shapes alone.
        ranks: who holds the blocks; rank 0 alone writes the ledger.
        rounds: of training.
        cohort: who takes part.
        groups: group -> worker -> labelled rows to evaluate on.
        sample: training rows on which statistics of norms are fixed for use.
        start: the first line of the ledger.
        evaluate_every: rounds between evaluations.
        checkpoint: of checkpoints.
        fingerprint: what tells this run from others.
        about: what the final model is, but for its tensors.
    """

    play: Partitioned
    ranks: Ranks
    rounds: int
    cohort: CohortRule
    groups: Mapping[str, Mapping[int, Rows]]
    sample: Rows
    start: Start
    evaluate_every: int
    checkpoint: CheckpointPolicy
    fingerprint: str
    about: Mapping[str, Any]


def execute_blocks(
    run: BlockRun, folder: Path, watch: Sequence[Watcher] = (), at: int | None = None
) -> State:
    """Play a run in blocks, from its newest checkpoint if it has one.

    Every rank writes its own blocks to ``checkpoints``; at the end they become one file in
    ``final``, as of every run, which no rank need hold for it.

    Returns:
        A state without parameters: nobody has them all.

    Raises:
        RunError: for what a user can mend.
        KeyboardInterrupt: after Ctrl-C, once a checkpoint is written.
    """
    shards, ledger = restore_blocks(run, folder, at), folder / LEDGER

    def note(entry: LedgerEntry) -> None:
        if run.ranks.leads:
            append_entry(ledger, entry)
            for watcher in watch:
                watcher(entry)

    if not shards.round:
        note(run.start)
    begun = time.perf_counter()
    try:
        with catch_interrupts() as asked:
            play_remaining_blocks(run, shards, folder, note, asked)
        write_block_model(run, shards, folder)
    except (RuntimeError, ValueError, MemoryError) as error:
        note(End(shards.round, time.perf_counter() - begun, "failed", str(error)))
        raise explain_failure(error, folder, run.ranks.size) from error
    note(End(shards.round, time.perf_counter() - begun, "finished"))
    return State({}, round=shards.round)


def restore_blocks(run: BlockRun, folder: Path, at: int | None) -> Shards:
    """Find where the run stands: its newest checkpoint, that of a round, or the beginning."""
    check_partitioned(run.play.method)
    shards = Shards(run.play.method.model, run.ranks)
    try:
        known = load_blocks(
            shards, folder / CHECKPOINTS, run.fingerprint, run.play.method.solve, at
        )
    except ValueError as error:
        raise RunError(str(error)) from error
    except RuntimeError as error:
        raise explain_failure(error, folder, run.ranks.size) from error
    if not known:
        run.play.begin(shards)
    if run.ranks.leads and (folder / LEDGER).exists():
        cut_ledger_rounds(folder / LEDGER, shards.round if known else -1)
    run.ranks.gather(None)
    return shards


def cut_ledger_rounds(ledger: Path, last: int) -> None:
    """Forget what was written after a round, and how the run ended; all, where it is below 0."""
    if last < 0:
        ledger.unlink()
        return
    told = read_ledger(ledger)
    entries = sorted([*told.rounds, *told.evaluations], key=lambda entry: entry.round)
    kept: list[LedgerEntry] = [told.start, *(entry for entry in entries if entry.round <= last)]
    replace_file(ledger, "".join(encode_entry(entry) + "\n" for entry in kept).encode())


def play_remaining_blocks(
    run: BlockRun,
    shards: Shards,
    folder: Path,
    note: Callable[[LedgerEntry], None],
    asked: Callable[[], bool],
) -> None:
    """Play the rounds that are left."""
    while shards.round < run.rounds:
        note(play_block_round(run, shards))
        last = shards.round == run.rounds
        if last or shards.round % run.evaluate_every == 0:
            note(evaluate_blocks(run, shards))
        stop = run.ranks.agree(wish=asked())
        if last or stop or shards.round % run.checkpoint.every == 0:
            update_blocks(shards)
            agree_finite(run.ranks, shards.params, shards.round)
            if run.ranks.leads:
                sync_ledger(folder / LEDGER)
            save_blocks(shards, folder / CHECKPOINTS, run.fingerprint, run.checkpoint.last)
        if stop:
            note(End(shards.round, 0.0, "interrupted", "stopped by the user"))
            raise KeyboardInterrupt


def play_block_round(run: BlockRun, shards: Shards) -> Round:
    """Play one round; its bytes are those of the pieces, down and up, as in any ledger."""
    begun, cohort = time.perf_counter(), run.cohort(shards.round, run.play.seed)
    shares = run.play.shares(cohort, shards.round)
    told = run.play.play(shards, cohort)
    meter = TrafficMeter()
    for (worker, share), record in zip(shares.items(), told, strict=True):
        size = count_piece_bytes(shards, share.part.axes)
        meter.down[worker] = meter.up[worker] = size
        meter.replies.append(Reply(worker, share, {}, record=record))
    return meter.make_entry(
        run.play.method, State({}, round=shards.round), time.perf_counter() - begun
    )


def count_piece_bytes(shards: Shards, kept: Mapping[str, torch.Tensor]) -> int:
    """Count the bytes of a piece by its shapes, and of the optimiser's memory that goes with it."""
    total = 0
    for _, name, block in shards.tensors():
        size = block.element_size()
        whole = shards.model.params[name].shape if block.ndim else ()
        for length, axis in zip(whole, shards.axes[name] if block.ndim else (), strict=True):
            size *= len(kept[str(axis)]) if str(axis) in kept else length
        total += size
    return total


def evaluate_blocks(run: BlockRun, shards: Shards) -> Evaluation:
    """Evaluate where the run stands: every rank computes its own units, for all rows."""
    begun, result = time.perf_counter(), {}
    update_blocks(shards)
    with torch.no_grad():
        fixed = calibrate_blocks(run, shards)
        agree_finite(run.ranks, fixed, shards.round)
        for name, workers in run.groups.items():
            found = [
                score_block_rows(shards, fixed, rows, len(run.start.classes))
                for rows in workers.values()
            ]
            result[name] = Group(
                workers=list(workers),
                accuracy=[mean_or_nan(one.right, one.count) for one in found],
                rows=[one.count for one in found],
                loss=[mean_or_nan(one.loss, one.count) for one in found],
            )
    return Evaluation(shards.round, time.perf_counter() - begun, result)


def calibrate_blocks(run: BlockRun, shards: Shards) -> Params:
    """Give what is added for use, of a method that calibrates."""
    if run.play.method.calibrate is skip_calibration:
        return {}
    return shards.form.fix(shards.params, run.sample, run.ranks)


def score_block_rows(shards: Shards, fixed: Params, rows: Rows, classes: int) -> Score:
    """Score a worker's rows, chunk by chunk."""
    into = Score((0, classes))
    for ids in chunk_positions(rows, 2048):
        batch = rows.take(ids)
        told = shards.form.logits(shards.params, batch, fixed, shards.ranks)
        into.add(F.log_softmax(told, -1), batch["y"], None)
    return into


def write_block_model(run: BlockRun, shards: Shards, folder: Path) -> None:
    """Write the final model; it is there whole, or not at all."""
    update_blocks(shards)
    with torch.no_grad():
        fixed = calibrate_blocks(run, shards)
    work, beside = folder / ".whole", folder / ".final.new"
    whole = write_whole(shards, fixed, work)
    if whole is not None:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        whole.rename(beside / MODEL)
        about = config_to_bytes(run.about, digest_file(beside / MODEL))
        replace_file(beside / CONFIG, about)
        shutil.rmtree(folder / "final", ignore_errors=True)
        beside.rename(folder / "final")
        shutil.rmtree(work)
    run.ranks.gather(None)
