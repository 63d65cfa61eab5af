"""Experts for counts that spread more than Poisson's: negative binomial regressions, log link.

The variance is ``mean + mean^2 / size``; the larger the size, the nearer to Poisson's law.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moiety.mixtures.experts import LARGEST_LOG_STEP, StepOptions
from moiety.mixtures.law import (
    Derivatives,
    LawSums,
    check_whole_numbers,
    find_least_count,
    hold_line,
)
from moiety.mixtures.logit import Array
from moiety.mixtures.special import digamma, log_gamma, trigamma

LEAST_SIZE, LARGEST_SIZE = 1e-3, 1e6  # beyond them a law is all zeros, or Poisson's


@dataclass(frozen=True)
class NegativeBinomial:
    """Counts whose log mean is the line, of a size that each expert has."""

    name: str = "negative_binomial"
    spread_names: tuple[str, ...] = ("sizes",)
    moves: bool = False
    whole: bool = True

    def check(self, y: Array, /) -> None:
        check_whole_numbers(y)

    def link(self, y: Array, /) -> Array:
        return np.log(y + 0.5)

    def begin(self, variance_K: Array, /) -> Array:
        return np.clip(1 / np.maximum(variance_K, 1e-300), 0.5, 10.0)[None]

    def hold(self, lines: Array, /) -> Array:
        return hold_line(lines)

    def log_density(self, lines: Array, y: Array, spreads: Array, /) -> Array:
        size = spreads[0]
        odds = lines - np.logaddexp(lines, np.log(size))  # log of mean / (mean + size)
        rest = np.log(size) - np.logaddexp(lines, np.log(size))
        ways = log_gamma(y + size) - log_gamma(size) - log_gamma(y + 1.0)
        return ways + y * odds + size * rest

    def prepare_step(self, lines: Array, y: Array, spreads: Array, shares: Array, /) -> LawSums:
        rates, size = np.exp(lines), spreads[0]
        damped, gap = size / (size + rates), y - rates
        first, second = differentiate_size(rates, y, size)
        terms = (gap**2 * damped / rates, first, second)
        weighed = tuple(shares * term for term in terms)
        return LawSums(shares * rates * damped, shares * gap * damped, weighed)

    def move(self, spreads: Array, sums: Array, change_K: Array, options: StepOptions, /) -> Array:
        """Make a Newton step of log sizes, uphill also where the likelihood bends upwards."""
        step = sums[1] / np.maximum(np.abs(sums[2]), 1e-300)
        moved = np.log(spreads) + options.step_size * np.clip(
            step, -LARGEST_LOG_STEP, LARGEST_LOG_STEP
        )
        return self.hold_spreads(np.exp(moved), options.floor)

    def hold_spreads(self, spreads: Array, floor: float, /) -> Array:
        return np.clip(spreads, LEAST_SIZE, LARGEST_SIZE)

    def soften(self, spreads: Array, /) -> Array:
        return np.minimum(spreads, 100.0)

    def is_floored(self, spreads: Array, floor: float, /) -> Array:
        return np.zeros(spreads.shape[1], bool)

    def differentiate(self, lines: Array, y: Array, spreads: Array, /) -> Derivatives:
        rates, size = np.exp(lines), spreads[0]
        damped, gap = size / (size + rates), y - rates
        first, second = differentiate_size(rates, y, size)
        bend = rates * size * (size + y) / (size + rates) ** 2
        cross = -gap * damped * rates / (size + rates)
        return Derivatives(gap * damped, bend, first[None], cross[None], second[None, None])

    def mean(self, lines: Array, spreads: Array, /) -> Array:
        return np.exp(lines)

    def variance(self, lines: Array, spreads: Array, /) -> Array:
        return np.exp(lines) * (1 + np.exp(lines) / spreads[0])

    def cdf(self, lines: Array, y: Array, spreads: Array, /) -> Array:
        from scipy.special import betainc  # scipy comes with the extra of the estimators

        count = np.maximum(np.floor(y), 0)
        size = spreads[0]
        return np.where(y < 0, 0.0, betainc(size, count + 1, size / (size + np.exp(lines))))

    def quantile(self, lines: Array, level: Array, spreads: Array, /) -> Array:
        return find_least_count(self, lines, level, spreads)

    def draw(self, lines: Array, spreads: Array, rng: np.random.Generator, /) -> Array:
        rates = np.exp(lines) * rng.gamma(np.broadcast_to(spreads[0], lines.shape)) / spreads[0]
        return rng.poisson(rates).astype(np.float64)


def differentiate_size(rates: Array, y: Array, size: Array) -> tuple[Array, Array]:
    """Give the first derivative of the log density in the log size, and minus the second."""
    whole, gap = size + rates, y - rates
    first = digamma(y + size) - digamma(size) - np.log1p(rates / size)
    first = first - gap / whole
    second = trigamma(y + size) - trigamma(size)
    second = second + rates / (size * whole) + gap / whole**2
    return size * first, -(size**2 * second + size * first)
