"""A run of which no rank ever has the whole model: ``--engine partitioned``, under ``torchrun``."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from moiety.blocks.checkpoint import load_blocks, save_blocks, write_whole
from moiety.blocks.partitioned import BlockRounds, check_partitioned
from moiety.blocks.peers import update_blocks
from moiety.blocks.shards import Shards
from moiety.core.errors import RunError
from moiety.core.files import digest_file, replace_file
from moiety.core.ledger import Evaluation
from moiety.core.protocols import skip_calibration
from moiety.core.rows import Rows, chunk_positions
from moiety.core.types import Params
from moiety.engine.ranks import Ranks
from moiety.run.errors import explain_failure
from moiety.run.evaluate import Score, summarize_group
from moiety.run.finite import agree_finite
from moiety.run.loop import Restored
from moiety.serve.predictor import CONFIG, MODEL, config_to_bytes


def leave_check_to_saving(shards: Shards) -> None:
    """Blocks are stale between rounds: they are looked at before every checkpoint."""


@dataclass(frozen=True)
class BlockCheckpoints:
    """Checkpoints to which every rank writes its own blocks.

    Args:
        folder: of them; ranks must share it.
        rounds: of the run.
        ranks: who holds the blocks.
        fingerprint: what tells this run from others.
        last: how many of the newest to keep, beside the best.
    """

    folder: Path
    rounds: BlockRounds
    ranks: Ranks
    fingerprint: str
    last: int

    def restore(self, at: int | None, /) -> Restored[Shards]:
        check_partitioned(self.rounds.method)
        shards = Shards(self.rounds.method.model, self.ranks)
        solve = self.rounds.method.solve
        try:
            index = load_blocks(shards, self.folder, self.fingerprint, solve, at)
        except ValueError as error:
            raise RunError(str(error)) from error
        except RuntimeError as error:
            raise explain_failure(error, self.folder.parent, self.ranks.size) from error
        if index is None:
            return Restored(self.rounds.begin(shards))
        return Restored(shards, index["ledger_bytes"], index["score"])

    def save(self, kept: Restored[Shards], /) -> None:
        shards = kept.state
        update_blocks(shards)
        agree_finite(self.ranks, shards.params, shards.round)
        note = {"ledger_bytes": self.ranks.broadcast(kept.ledger_bytes), "score": kept.score}
        save_blocks(shards, self.folder, self.fingerprint, last=self.last, note=note)


@dataclass(frozen=True)
class BlockEvaluation:
    """Evaluates where a run stands: every rank computes its own units, for all rows.

    Args:
        rounds: of the run.
        groups: group -> worker -> labelled rows.
        sample: training rows on which statistics of norms are fixed for use.
    """

    rounds: BlockRounds
    groups: Mapping[str, Mapping[int, Rows]]
    sample: Rows

    def __call__(self, shards: Shards) -> Evaluation:
        begun, result = time.perf_counter(), {}
        fixed = self.calibrate(shards)
        agree_finite(shards.ranks, fixed, shards.round)
        for name, workers in self.groups.items():
            found = [self.score(shards, fixed, rows) for rows in workers.values()]
            result[name] = summarize_group(workers, found, self.rounds.method.serve.objective)
        return Evaluation(shards.round, time.perf_counter() - begun, result)

    def calibrate(self, shards: Shards) -> Params:
        """Bring the blocks up to date; give what is added for use, of a method that calibrates."""
        update_blocks(shards)
        if self.rounds.method.calibrate is skip_calibration:
            return {}
        with torch.no_grad():
            return shards.form.fix(shards.params, self.sample, shards.ranks)

    def score(self, shards: Shards, fixed: Params, rows: Rows) -> Score:
        """Score a worker's rows, chunk by chunk."""
        into = Score(self.rounds.method.serve.objective)
        for ids in chunk_positions(rows, 2048):
            batch = rows.take(ids)
            with torch.no_grad():
                told = shards.form.logits(shards.params, batch, fixed, shards.ranks)
            into.add(self.rounds.method.serve.objective.answer(told), batch["y"], None)
        return into


def write_block_model(
    shards: Shards, fixed: Params, about: Mapping[str, Any], folder: Path
) -> None:
    """Write the final model; it is there whole, or not at all, and no rank need hold it whole.

    Args:
        shards: our blocks.
        fixed: what is added for use.
        about: what the model is, but for its tensors.
        folder: of the run.
    """
    work, beside = folder / ".whole", folder / ".final.new"
    whole = write_whole(shards, fixed, work)
    if whole is not None:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        whole.rename(beside / MODEL)
        data = config_to_bytes(about, digest_file(beside / MODEL))
        replace_file(beside / CONFIG, data)
        shutil.rmtree(folder / "final", ignore_errors=True)
        beside.rename(folder / "final")
        shutil.rmtree(work)
    shards.ranks.gather(None)
