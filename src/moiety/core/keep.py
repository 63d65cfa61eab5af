"""Which round's model is the final one, and when a run ends early: read off the ledger's scores.

Nothing of this is state: a run that goes on reads its scores again, so that it chooses as one that
never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from moiety.core.errors import UnknownNameError
from moiety.core.ledger import Evaluation, Ledger

BEST, LAST = "best", "last"

VALIDATION = "validation"
"""The group of rows that models are chosen by; no table of results reads it."""


@dataclass(frozen=True)
class Keep:
    """Which model is the final one, and when a run ends before its last round.

    Both go by the first metric on the validation rows, and so need some.

    Args:
        final: ``last``, or ``best``: of the evaluation that was best (the earliest of equals).
        patience: evaluations without a better one after which the run ends; 0 plays all rounds.
        improvement: by how much, in the metric's unit (0.01 is a point of a share), an evaluation
            must be better to count as such for ``patience``.
    """

    final: str = LAST
    patience: int = 0
    improvement: float = 0.0

    @property
    def chooses(self) -> bool:
        """Whether scores change anything."""
        return self.final == BEST or self.patience > 0

    def check(self, groups: Collection[str], remedy: str) -> None:
        """Refuse a choice that is none, or that no rows are there for.

        Args:
            groups: names of those that the run evaluates.
            remedy: what gives validation rows.

        Raises:
            ValueError: with the value and the remedy.
        """
        if self.final not in (BEST, LAST):
            raise UnknownNameError(f"keep.final={self.final!r}; choose {BEST!r} or {LAST!r}")
        if self.patience < 0 or not 0 <= self.improvement < math.inf:
            raise ValueError(
                f"keep.patience={self.patience}, keep.improvement={self.improvement}; choose "
                "evaluations, 0 for no early end, and a finite number of at least 0"
            )
        if self.improvement and not self.patience:
            raise ValueError(
                f"keep.improvement={self.improvement} is read by keep.patience alone, which is 0; "
                "say after how many evaluations to end, or leave it out"
            )
        if self.chooses and VALIDATION not in groups:
            raise ValueError(
                f"keep.final={self.final!r}, keep.patience={self.patience} choose by validation "
                f"rows, and there are none (test rows choose nothing): {remedy}"
            )


@dataclass(frozen=True)
class Judged:
    """How good the model was after a round, on validation rows; more is better."""

    round: int
    score: float


def find_best(scores: Sequence[Judged]) -> Judged:
    """Find the best, the earliest of equals.

    >>> find_best([Judged(0, 0.1), Judged(2, 0.7), Judged(4, 0.7)]).round
    2
    """
    return max(scores, key=lambda one: one.score)


def count_stalled(scores: Sequence[Judged], improvement: float) -> int:
    """Count the evaluations since the last that was better by more than ``improvement``.

    >>> count_stalled([Judged(0, 0.1), Judged(2, 0.7), Judged(4, 0.71)], 0.05)
    1
    """
    best, stalled = -math.inf, 0
    for one in scores:
        better = one.score > best + improvement
        best, stalled = (one.score, 0) if better else (best, stalled + 1)
    return stalled


def is_over(keep: Keep, scores: Sequence[Judged]) -> bool:
    """Say whether a run ends here because it gets no better."""
    return keep.patience > 0 and count_stalled(scores, keep.improvement) >= keep.patience


def find_final_evaluation(ledger: Ledger) -> Evaluation:
    """Find the evaluation of a run's final model; of one that has none yet, the last."""
    final = None if ledger.end is None else ledger.end.final
    found = [entry for entry in ledger.evaluations if entry.round == final]
    return (found or ledger.evaluations)[-1]
