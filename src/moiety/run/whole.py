"""A run whose model every rank has whole: how it is checked, evaluated and kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from moiety.core.checkpoints import (
    find_checkpoint,
    list_checkpoints,
    prune_checkpoints,
)
from moiety.core.errors import RunError
from moiety.core.ledger import Evaluation
from moiety.core.rows import Rows
from moiety.core.state import State
from moiety.engine.collective import gather_memory
from moiety.engine.ranks import Ranks
from moiety.rounds.staged import StagedRounds
from moiety.rounds.synchronous import initialise_state
from moiety.run.checkpoint import (
    Checkpoint,
    move_checkpoint,
    read_checkpoint,
    read_score,
    write_checkpoint,
)
from moiety.run.evaluate import evaluate_groups
from moiety.run.finite import agree_finite, check_finite
from moiety.run.loop import Restored
from moiety.solve.sgd import OWN


def check_state(state: State) -> None:
    """Refuse a model whose numbers are not finite; losses tell of workers alone."""
    check_finite(state.params, state.round)


@dataclass(frozen=True)
class WholeEvaluation:
    """Evaluates where a run stands; rank 0 does, of the others no group is asked.

    Args:
        rounds: of the run; the method is that of the stage last played.
        groups: group -> worker -> labelled rows.
        sample: some training rows, for methods whose whole must be calibrated.
        ranks: who plays the run alike.
    """

    rounds: StagedRounds
    groups: Mapping[str, Mapping[int, Rows]]
    sample: Rows | None
    ranks: Ranks

    def __call__(self, state: State) -> Evaluation:
        method, leads = self.rounds.stages[state.stage].method, self.ranks.leads
        own = {w: kept for w, kept in self.rounds.engine.memory.items() if OWN in kept}
        memory = gather_memory(own, self.ranks)
        params = method.calibrate(state.params, self.sample) if leads else state.params
        added = {name: t for name, t in params.items() if t is not state.params.get(name)}
        agree_finite(self.ranks, added, state.round)  # the others were looked at after the round
        groups = self.groups if leads else {}
        return evaluate_groups(method, replace(state, params=params), memory, groups)


@dataclass(frozen=True)
class WholeCheckpoints:
    """Checkpoints that rank 0 writes and reads for all.

    Args:
        folder: of them.
        rounds: of the run; their engine holds what workers keep.
        ranks: who plays the run alike.
        fingerprint: what tells this recipe from others.
        device: on which the run is played.
        last: how many of the newest to keep, beside the best.
    """

    folder: Path
    rounds: StagedRounds
    ranks: Ranks
    fingerprint: str
    device: str
    last: int

    def restore(self, at: int | None, /) -> Restored[State]:
        found: Restored[State] | RunError | None = None
        if self.ranks.leads:
            try:
                found = self.read(at)
            except RunError as error:
                found = error
        found = self.ranks.broadcast(found)
        memory = self.ranks.broadcast(dict(self.rounds.engine.memory))
        if found is None or isinstance(found, RunError):
            raise found or RunError("rank 0 found nothing")
        self.rounds.engine.memory.update(memory)
        return found

    def read(self, at: int | None) -> Restored[State]:
        """Read the checkpoint to go on from, or begin."""
        where = find_checkpoint(self.folder, list_checkpoints(self.folder), at)
        if where is None:
            return Restored(initialise_state(self.rounds.stages[0].method))
        kept = read_checkpoint(where, self.fingerprint)
        kept = move_checkpoint(kept, self.device)
        self.rounds.engine.memory.clear()
        self.rounds.engine.memory.update(kept.memory)
        return Restored(kept.state, kept.ledger_bytes, kept.score)

    def save(self, kept: Restored[State], /) -> None:
        memory = gather_memory(self.rounds.engine.memory, self.ranks)
        if not self.ranks.leads:
            return
        size = kept.ledger_bytes or 0
        made = Checkpoint(kept.state, memory, size, kept.score, self.fingerprint)
        write_checkpoint(self.folder, made)
        prune_checkpoints(self.folder, self.last, read_score)
