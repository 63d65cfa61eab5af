"""What a run costs in privacy: epsilon at a delta, after so many rounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np

from moiety.core.extras import import_extra

PURPOSE, EXTRA = "accounting for privacy", "privacy"

LEAST_NOISE, MOST_NOISE, DIGITS = 1e-2, 1e6, 4
"""Between which a noise is looked for, and the decimals to which it is rounded up."""

LOSS_STEP = 1e-3
"""Steps to which privacy losses are rounded, upwards; finer ones change the fourth digit."""

DrawCohort = Callable[[int, int], Sequence[int]]
"""Names the workers of a round, by its number and the seed."""


def count_asked(draw: DrawCohort, seed: int, rounds: int) -> tuple[dict[int, int], ...]:
    """Count, in each round, for those who are asked how often they were, this time included.

    >>> count_asked(lambda number, _: (0, 1 + number % 2), 0, 3)
    ({0: 1, 1: 1}, {0: 2, 2: 1}, {0: 3, 1: 2})
    """
    asked: dict[int, int] = {}
    found = []
    for number in range(rounds):
        here = draw(number, seed)
        asked.update({worker: asked.get(worker, 0) + 1 for worker in here})
        found.append({worker: asked[worker] for worker in here})
    return tuple(found)


def count_most_asked(draw: DrawCohort, seed: int, rounds: int) -> tuple[int, ...]:
    """Count in how many rounds that worker was asked that was asked most, after each round.

    >>> count_most_asked(lambda number, _: (0, 1 + number % 2), 0, 3)
    (1, 2, 3)
    """
    most = [max(here.values(), default=0) for here in count_asked(draw, seed, rounds)]
    return tuple(accumulate(most, max))


def spend_gaussian(noise: float, times: int, delta: float) -> float:
    """Give epsilon of so many Gaussian mechanisms, exactly.

    Args:
        noise: standard deviation over the sensitivity.
        times: at least one.
        delta: the chance for which epsilon does not answer.
    """
    library: Any = import_extra("dp_accounting", PURPOSE, EXTRA)
    with np.errstate(divide="ignore"):  # of noise so large that epsilon is 0
        return float(library.get_epsilon_gaussian(noise / math.sqrt(times), delta))


@lru_cache(maxsize=4096)
def spend_sampled(noise: float, chance: float, times: int, delta: float) -> float:
    """Give epsilon of Gaussian mechanisms on a Poisson sample, from above.

    A neighbour is a world in which one worker's change is zero.
    """
    library: Any = import_extra("dp_accounting", PURPOSE, EXTRA)
    relation = library.NeighboringRelation.REPLACE_SPECIAL
    event = library.PoissonSampledDpEvent(chance, library.GaussianDpEvent(noise))
    spent = library.pld.PLDAccountant(relation, LOSS_STEP).compose(event, times)
    return float(spent.get_epsilon(delta))


@dataclass(frozen=True)
class Accountant:
    """Says what rounds cost.

    A round is a Gaussian mechanism whose noise is a multiple of how far one worker moves the sum.
    Where it is known who takes part, rounds in which a worker was not asked tell nothing of it, so
    those count in which it was: k of them are one mechanism with the noise over the root of k,
    of which epsilon is known exactly (Balle and Wang, arXiv:1805.06530). Where each worker takes
    part by a coin that nobody sees, all rounds count, and each for less (Poisson sampling; bound
    from above by distributions of the privacy loss, Doroshenko et al., arXiv:2207.04380).

    Args:
        delta: the chance for which epsilon does not answer.
        asked: in how many rounds the worker that was asked most was asked, after each round; the
            cohorts are known to everybody.
        chance: of each worker, in each round, by coins that nobody sees; 0 where cohorts are known.
    """

    delta: float
    asked: tuple[int, ...] = ()
    chance: float = 0.0

    def spend(self, noise: float, rounds: int) -> float:
        """Give epsilon after so many rounds."""
        if not rounds:
            return 0.0
        if self.chance:
            return spend_sampled(noise, self.chance, rounds, self.delta)
        return spend_gaussian(noise, self.asked[rounds - 1], self.delta)

    def solve_noise(self, budget: float, rounds: int) -> float:
        """Find the least noise with which rounds cost no more than a budget.

        Raises:
            ValueError: where there is none.
        """
        low, high = LEAST_NOISE, MOST_NOISE
        if self.spend(high, rounds) > budget:
            raise ValueError(f"no noise makes {rounds} rounds cost epsilon={budget}; choose more")
        while high - low > 0.1**DIGITS / 2:
            middle = math.sqrt(low * high) if high > 2 * low else (low + high) / 2
            low, high = (low, middle) if self.spend(middle, rounds) <= budget else (middle, high)
        return math.ceil(high * 10**DIGITS) / 10**DIGITS

    def count_rounds(self, noise: float, budget: float, rounds: int) -> int:
        """Count the rounds, of so many, that cost no more than a budget."""
        low, high = 0, rounds
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.spend(noise, middle) <= budget else (low, middle - 1)
        return low
