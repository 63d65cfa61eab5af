"""Experts for successes in a number of trials: binomial regressions with a logit link."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moiety.mixtures.canonical import CanonicalLaw
from moiety.mixtures.law import LawSums, check_whole_numbers, find_least_count
from moiety.mixtures.logit import Array
from moiety.mixtures.special import log_gamma


def squash(lines: Array) -> Array:
    """Give the chances of which lines are the log odds."""
    return 1 / (1 + np.exp(-lines))


@dataclass(frozen=True)
class Binomial(CanonicalLaw):
    """Successes in so many trials a row; the log odds of one are the line."""

    trials: int = 1
    name: str = "binomial"
    spread_names: tuple[str, ...] = ()
    moves: bool = False
    whole: bool = True

    def check(self, y: Array, /) -> None:
        check_whole_numbers(y, self.trials)

    def link(self, y: Array, /) -> Array:
        return np.log((y + 0.5) / (self.trials - y + 0.5))

    def log_density(self, lines: Array, y: Array, spreads: Array, /) -> Array:
        ways = log_gamma(np.array(self.trials + 1.0)) - log_gamma(y + 1.0)
        ways = ways - log_gamma(self.trials - y + 1.0)
        return ways + y * lines - self.trials * np.logaddexp(0, lines)

    def prepare_step(self, lines: Array, y: Array, spreads: Array, shares: Array, /) -> LawSums:
        chance = squash(lines)
        curve, gap = self.trials * chance * (1 - chance), y - self.trials * chance
        return LawSums(shares * curve, shares * gap, (shares * gap**2 / curve,))

    def mean(self, lines: Array, spreads: Array, /) -> Array:
        return self.trials * squash(lines)

    def variance(self, lines: Array, spreads: Array, /) -> Array:
        return self.trials * squash(lines) * squash(-lines)

    def cdf(self, lines: Array, y: Array, spreads: Array, /) -> Array:
        from scipy.special import bdtr  # scipy comes with the extra of the estimators

        count = np.clip(np.floor(y), 0, self.trials)
        return np.where(y < 0, 0.0, bdtr(count, self.trials, squash(lines)))

    def quantile(self, lines: Array, level: Array, spreads: Array, /) -> Array:
        return find_least_count(self, lines, level, spreads)

    def draw(self, lines: Array, spreads: Array, rng: np.random.Generator, /) -> Array:
        return rng.binomial(self.trials, squash(lines)).astype(np.float64)
