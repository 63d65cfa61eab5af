"""Experts for counts: Poisson regressions with a log link."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moiety.mixtures.canonical import CanonicalLaw
from moiety.mixtures.law import LawSums, check_whole_numbers
from moiety.mixtures.logit import Array
from moiety.mixtures.special import log_gamma


@dataclass(frozen=True)
class Poisson(CanonicalLaw):
    """Counts whose log rate is the line."""

    name: str = "poisson"
    spread_names: tuple[str, ...] = ()
    moves: bool = False
    whole: bool = True

    def check(self, y: Array, /) -> None:
        check_whole_numbers(y)

    def link(self, y: Array, /) -> Array:
        return np.log(y + 0.5)

    def log_density(self, lines: Array, y: Array, spreads: Array, /) -> Array:
        return y * lines - np.exp(lines) - log_gamma(y + 1.0)

    def prepare_step(self, lines: Array, y: Array, spreads: Array, shares: Array, /) -> LawSums:
        rates = np.exp(lines)
        gap = y - rates
        return LawSums(shares * rates, shares * gap, (shares * gap**2 / rates,))

    def mean(self, lines: Array, spreads: Array, /) -> Array:
        return np.exp(lines)

    def variance(self, lines: Array, spreads: Array, /) -> Array:
        return np.exp(lines)

    def cdf(self, lines: Array, y: Array, spreads: Array, /) -> Array:
        from scipy.special import pdtr  # scipy comes with the extra of the estimators

        return np.where(y < 0, 0.0, pdtr(np.maximum(np.floor(y), 0), np.exp(lines)))

    def quantile(self, lines: Array, level: Array, spreads: Array, /) -> Array:
        return find_count_quantiles(np.exp(lines), level)

    def draw(self, lines: Array, spreads: Array, rng: np.random.Generator, /) -> Array:
        return rng.poisson(np.exp(lines)).astype(np.float64)


POISSON = Poisson()


def find_count_quantiles(rates: Array, levels: Array) -> Array:
    """Give the least counts whose distribution reaches the levels; shapes are broadcast."""
    from scipy.special import pdtr, pdtrik  # scipy comes with the extra of the estimators

    rates, levels = np.broadcast_arrays(rates, levels)
    found = np.ceil(pdtrik(levels, rates))
    below = np.maximum(found - 1, 0)  # rounding may put the inverse one too high
    found = np.where(pdtr(below, rates) >= levels, below, found)
    return np.where(pdtr(0, rates) >= levels, 0.0, found)
