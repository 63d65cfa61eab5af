"""What a mixture of experts predicts at given rows.

Letters: N rows, K experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, ndtr, ndtri, pdtr

from moiety.mixtures.counts import find_count_quantiles
from moiety.mixtures.logit import Array


@dataclass(frozen=True)
class Predictive:
    """A mixture of normals per row: weights [N, K], means [N, K], spreads (sd) [K]."""

    weights: Array
    means: Array
    spreads: Array

    def mean(self) -> Array:
        """Give the means, [N]."""
        return (self.weights * self.means).sum(1)

    def var(self) -> Array:
        """Give the variances, [N]."""
        apart = (self.means - self.mean()[:, None]) ** 2
        return (self.weights * (self.spreads**2 + apart)).sum(1)

    def logpdf(self, y: Array) -> Array:
        """Give the log density of one y per row, [N]."""
        z = (np.asarray(y)[:, None] - self.means) / self.spreads
        with np.errstate(divide="ignore"):
            parts = np.log(self.weights) - 0.5 * (z**2 + np.log(2 * np.pi * self.spreads**2))
        top = parts.max(1, keepdims=True)
        return (top + np.log(np.exp(parts - top).sum(1, keepdims=True)))[:, 0]

    def pdf(self, y: Array) -> Array:
        """Give the density of one y per row, [N]."""
        return np.exp(self.logpdf(y))

    def cdf(self, y: Array) -> Array:
        """Give the chance of at most y, one y per row, [N]."""
        z = (np.asarray(y)[:, None] - self.means) / self.spreads
        return (self.weights * ndtr(z)).sum(1)

    def quantile(self, level: float) -> Array:
        """Give the level's quantile of every row, [N], by bisection between the experts' own."""
        if not 0 < level < 1:
            raise ValueError(f"{level=} is no quantile level; choose one between 0 and 1")
        own = self.means + self.spreads * ndtri(level)
        low, high = own.min(1), own.max(1)
        for _ in range(60):
            half = 0.5 * (low + high)
            under = self.cdf(half) < level
            low, high = np.where(under, half, low), np.where(under, high, half)
        return 0.5 * (low + high)

    def interval(self, level: float = 0.9) -> tuple[Array, Array]:
        """Give the bounds between which y lies with this chance, equal tails, [N] and [N]."""
        return self.quantile(0.5 * (1 - level)), self.quantile(0.5 * (1 + level))


@dataclass(frozen=True)
class CountPredictive:
    """A mixture of Poisson laws per row: weights [N, K] and rates [N, K]."""

    weights: Array
    rates: Array

    def mean(self) -> Array:
        """Give the means, [N]."""
        return (self.weights * self.rates).sum(1)

    def var(self) -> Array:
        """Give the variances, [N]."""
        apart = (self.rates - self.mean()[:, None]) ** 2
        return (self.weights * (self.rates + apart)).sum(1)

    def logpdf(self, y: Array) -> Array:
        """Give the log probability of one count per row, [N]."""
        return np.log(self.pdf(y))

    def pdf(self, y: Array) -> Array:
        """Give the probability of one count per row, [N]."""
        y = np.asarray(y, dtype=np.float64)[:, None]
        logs = y * np.log(self.rates) - self.rates - gammaln(y + 1)
        return (self.weights * np.exp(logs)).sum(1)

    def cdf(self, y: Array) -> Array:
        """Give the chance of at most y, one y per row, [N]."""
        return (self.weights * pdtr(np.floor(np.asarray(y))[:, None], self.rates)).sum(1)

    def quantile(self, level: float) -> Array:
        """Give the least count of every row whose chance is at least the level, [N]."""
        if not 0 < level < 1:
            raise ValueError(f"{level=} is no quantile level; choose one between 0 and 1")
        own = find_count_quantiles(self.rates, np.array(level))
        low, high = own.min(1) - 1, own.max(1)  # the first is below, the last reaches
        while (high - low > 1).any():
            half = np.floor(0.5 * (low + high))
            open_ = high - low > 1
            under = self.cdf(np.maximum(half, 0)) < level
            low, high = np.where(open_ & under, half, low), np.where(open_ & ~under, half, high)
        return high

    def interval(self, level: float = 0.9) -> tuple[Array, Array]:
        """Give bounds between which a count lies with at least this chance, [N] and [N]."""
        return self.quantile(0.5 * (1 - level)), self.quantile(0.5 * (1 + level))
