"""How long nodes are waited for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEARNT = 64
"""Jobs, the last ones, of which a grace time is learnt."""


@dataclass(frozen=True)
class Waiting:
    """How long a round waits, by a clock on the wall; it enters no number but who took part.

    Args:
        quorum: share of a round's workers whose replies must be there before a grace time ends it.
        patience: the grace time, in multiples of the seconds within which nine of ten of the last
            jobs were done.
        least_s: seconds that a grace time has at least.
        most_s: seconds after which a round ends, whoever is missing.
        join_s: seconds for which nodes are waited for when the run begins.
        poll_s: seconds between looks.
    """

    quorum: float = 0.5
    patience: float = 2.0
    least_s: float = 5.0
    most_s: float = 600.0
    join_s: float = 120.0
    poll_s: float = 0.5

    def __post_init__(self) -> None:
        times = (self.patience, self.least_s, self.most_s, self.join_s, self.poll_s)
        if not 0 < self.quorum <= 1 or not all(0 < one < math.inf for one in times):
            raise ValueError(
                f"{self}: choose a quorum above 0 and at most 1, and times above 0 and finite"
            )

    def find_grace(self, job_s: Sequence[float]) -> float:
        """Give the grace time, of the seconds that jobs took.

        >>> Waiting(patience=2.0, least_s=1.0).find_grace([3.0] * 9 + [50.0])
        6.0
        """
        last = sorted(job_s[-LEARNT:])
        return max(self.least_s, self.patience * last[(9 * len(last) - 1) // 10])
