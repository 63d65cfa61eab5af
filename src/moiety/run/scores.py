"""Scores on validation rows, read off a run's ledger: what its final model is chosen by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from moiety.core.checkpoints import list_checkpoints
from moiety.core.errors import RunError
from moiety.core.keep import Judged, find_best
from moiety.core.ledger import Evaluation, read_entries
from moiety.core.objective import Metric
from moiety.engine.ranks import Ranks
from moiety.run.evaluate import rate_evaluation


def read_scores(path: Path, metric: Metric, ranks: Ranks) -> list[Judged]:
    """Read the scores of a ledger, for all ranks."""
    found: list[Judged] = []
    for entry in read_entries(path) if ranks.leads else ():
        if isinstance(entry, Evaluation):
            score = rate_evaluation(entry, metric)
            found.append(Judged(entry.round, -math.inf if score is None else score))
    return ranks.broadcast(found)


def refuse_lost_best(scores: Sequence[Judged], folder: Path, at: int, ranks: Ranks) -> None:
    """Refuse to go back to a round whose best model was given up for a later one.

    Args:
        scores: of the run.
        folder: of its checkpoints.
        at: the round.
        ranks: who plays the run alike.

    Raises:
        RunError: with the rounds to which it can go back.
    """
    have = ranks.broadcast([int(path.name) for path in list_checkpoints(folder)])
    best = {one: find_best([s for s in scores if s.round <= one]).round for one in have}
    if best[at] not in have:
        free = [str(one) for one in have if best[one] in have]
        others = f"go back to another (--at {' or '.join(free)}), or " if free else ""
        raise RunError(
            f"keep.final='best', and up to round {at} round {best[at]} was the best, whose "
            f"checkpoint was given up since; {others}go on without --at"
        )
