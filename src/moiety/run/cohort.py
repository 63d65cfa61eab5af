"""Who takes part, as a recipe says it."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from moiety.rounds.cohort import (
    AvailableCohort,
    CohortRule,
    FixedCohort,
    StratifiedCohort,
    UniformCohort,
)

if TYPE_CHECKING:
    from moiety.recipes.record import Participation  # which brings the command line


def choose_cohort_rule(
    participation: Participation, count: int, anchors: Collection[int]
) -> CohortRule:
    """Choose who takes part of ``count`` workers, some of which are anchors."""
    size = min(participation.size, count)
    if participation.fixed:
        return FixedCohort(tuple(range(size)))
    if participation.chance < 1:
        return AvailableCohort(count, size, lambda _: participation.chance)
    if participation.anchors >= 0 and anchors:
        others = tuple(worker for worker in range(count) if worker not in anchors)
        some = min(participation.anchors, len(anchors), size)
        return StratifiedCohort(
            (tuple(sorted(anchors)), others), (some, min(size - some, len(others)))
        )
    return UniformCohort(count, size)
