"""What a mixture of experts predicts at given rows.

Letters: N rows, K experts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from moiety.estimators.density_sets import (
    FINE_STEPS,
    FINENESS,
    find_highest_density,
    list_counts,
)
from moiety.estimators.options import check_level
from moiety.mixtures.law import Law
from moiety.mixtures.logit import Array, log_sum_exp
from moiety.mixtures.noise import Noise


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
        z = (line_up_responses(y, self.means) - self.means) / self.spreads
        with np.errstate(divide="ignore"):
            parts = np.log(self.weights) - 0.5 * (z**2 + np.log(2 * np.pi * self.spreads**2))
        top = parts.max(1, keepdims=True)
        return (top + np.log(np.exp(parts - top).sum(1, keepdims=True)))[:, 0]

    def pdf(self, y: Array) -> Array:
        """Give the density of one y per row, [N]."""
        return np.exp(self.logpdf(y))

    def cdf(self, y: Array) -> Array:
        """Give the chance of at most y, one y per row, [N]."""
        z = (line_up_responses(y, self.means) - self.means) / self.spreads
        return (self.weights * ndtr(z)).sum(1)

    def quantile(self, level: Any) -> Array:
        """Give the level's quantile of every row, [N], by bisection; of levels, [N, L]."""
        return find_quantiles(self._find_quantile, level)

    def _find_quantile(self, level: float) -> Array:
        own = self.means + self.spreads * ndtri(level)
        return bisect_quantile(self.cdf, level, own.min(1), own.max(1))

    def interval(self, level: float = 0.9) -> tuple[Array, Array]:
        """Give the bounds between which y lies with this chance, equal tails, [N] and [N]."""
        return find_interval(self.quantile, level)

    def sample(self, size: int = 1, random_state: Any = None) -> Array:
        """Draw responses of every row, [N, size]."""
        rng = np.random.default_rng(random_state)
        label = draw_labels(self.weights, size, rng)
        spreads = self.spreads[label]
        return np.take_along_axis(self.means, label, 1) + spreads * rng.standard_normal(label.shape)

    def grid(self) -> Array:
        """Give points between which the density hardly changes, in order, [N, G]."""
        own = self.means[:, :, None] + self.spreads[:, None] * FINE_STEPS
        return np.sort(own.reshape(len(own), -1), 1)

    def highest_density(self, level: float = 0.9) -> list[Array]:
        """Give each row's smallest set with this chance, as intervals: [I, 2] a row."""
        return find_highest_density(self, level)


@dataclass(frozen=True)
class LawPredictive:
    """A mixture of any law per row: weights [N, K], lines [N, K], and the law's spreads [P, K]."""

    weights: Array
    lines: Array
    spreads: Array
    law: Law

    def mean(self) -> Array:
        """Give the means, [N]."""
        return (self.weights * self.law.mean(self.lines, self.spreads)).sum(1)

    def var(self) -> Array:
        """Give the variances, [N]."""
        apart = (self.law.mean(self.lines, self.spreads) - self.mean()[:, None]) ** 2
        return (self.weights * (self.law.variance(self.lines, self.spreads) + apart)).sum(1)

    def logpdf(self, y: Array) -> Array:
        """Give the log density, or of counts the log probability, of one y per row, [N]."""
        y_N1 = line_up_responses(y, self.lines)
        with np.errstate(divide="ignore"):
            parts = np.log(self.weights) + self.law.log_density(self.lines, y_N1, self.spreads)
        return log_sum_exp(parts)

    def pdf(self, y: Array) -> Array:
        """Give the density, or of counts the probability, of one y per row, [N]."""
        return np.exp(self.logpdf(y))

    def cdf(self, y: Array) -> Array:
        """Give the chance of at most y, one y per row, [N]."""
        y_N1 = line_up_responses(y, self.lines)
        return (self.weights * self.law.cdf(self.lines, y_N1, self.spreads)).sum(1)

    def quantile(self, level: Any) -> Array:
        """Give the least y of every row whose chance reaches the level, [N]; of levels, [N, L]."""
        return find_quantiles(self._find_quantile, level)

    def _find_quantile(self, level: float) -> Array:
        own = self.law.quantile(self.lines, np.array(level), self.spreads)
        low, high = own.min(1), own.max(1)
        if not self.law.whole:
            return bisect_quantile(self.cdf, level, low, high)
        return bisect_counts(self.cdf, level, low - 1, high)  # below the first, at the last

    def interval(self, level: float = 0.9) -> tuple[Array, Array]:
        """Give bounds between which y lies with this chance, of counts at least, [N] and [N]."""
        return find_interval(self.quantile, level)

    def sample(self, size: int = 1, random_state: Any = None) -> Array:
        """Draw responses of every row, [N, size]."""
        rng = np.random.default_rng(random_state)
        spreads = self.spreads[:, None]

        def draw(label_NT: Array) -> Array:
            lines = np.take_along_axis(self.lines, label_NT, 1)
            own = np.take_along_axis(np.broadcast_to(spreads, (len(spreads), *self.lines.shape)),
                                     label_NT[None], 2)  # fmt: skip
            return self.law.draw(lines, own, rng)

        return draw(draw_labels(self.weights, size, rng))

    def grid(self) -> Array:
        """Give points between which the density hardly changes, in order, [N, G]."""
        ends = ndtr(FINE_STEPS[[0, -1]] if self.law.whole else FINE_STEPS)
        own = self.law.quantile(self.lines[..., None], ends, self.spreads[..., None])
        own = np.sort(own.reshape(len(own), -1), 1)
        return list_counts(own[:, 0], own[:, -1]) if self.law.whole else own

    def highest_density(self, level: float = 0.9) -> list[Array]:
        """Give each row's smallest set with this chance, as intervals: [I, 2] a row."""
        return find_highest_density(self, level, whole=self.law.whole)


@dataclass(frozen=True)
class NoisyPredictive:
    """What experts predict, and a share of responses anywhere in a range."""

    experts: Predictive | LawPredictive
    noise: Noise

    def mean(self) -> Array:
        """Give the means, [N]."""
        return (1 - self.noise.share) * self.experts.mean() + self.noise.share * self.noise.mean()

    def var(self) -> Array:
        """Give the variances, [N]."""
        own, other, mean = self.experts.mean(), self.noise.mean(), self.mean()
        within = (1 - self.noise.share) * (self.experts.var() + (own - mean) ** 2)
        return within + self.noise.share * (self.noise.variance() + (other - mean) ** 2)

    def logpdf(self, y: Array) -> Array:
        """Give the log density, or of counts the log probability, of one y per row, [N]."""
        with np.errstate(divide="ignore"):
            return np.log(self.pdf(y))

    def pdf(self, y: Array) -> Array:
        """Give the density, or of counts the probability, of one y per row, [N]."""
        even = np.exp(self.noise.log_density(np.asarray(y, dtype=np.float64)))
        return (1 - self.noise.share) * self.experts.pdf(y) + self.noise.share * even

    def cdf(self, y: Array) -> Array:
        """Give the chance of at most y, one y per row, [N]."""
        even = self.noise.cdf(np.asarray(y, dtype=np.float64))
        return (1 - self.noise.share) * self.experts.cdf(y) + self.noise.share * even

    def quantile(self, level: Any) -> Array:
        """Give the level's quantile of every row, [N], of counts the least; of levels, [N, L]."""
        return find_quantiles(self._find_quantile, level)

    def _find_quantile(self, level: float) -> Array:
        own = self.experts.quantile(level)
        place = self.noise.low + level * (self.noise.high - self.noise.low)
        low, high = np.minimum(own, np.floor(place)), np.maximum(own, np.ceil(place))
        if not self.noise.whole:
            return bisect_quantile(self.cdf, level, low, high)
        return bisect_counts(self.cdf, level, low - 1, high)

    def interval(self, level: float = 0.9) -> tuple[Array, Array]:
        """Give bounds between which y lies with this chance, of counts at least, [N] and [N]."""
        return find_interval(self.quantile, level)

    def sample(self, size: int = 1, random_state: Any = None) -> Array:
        """Draw responses of every row, [N, size]."""
        rng = np.random.default_rng(random_state)
        drawn = self.experts.sample(size, rng)
        stray = rng.random(drawn.shape) < self.noise.share
        return np.where(stray, self.noise.draw(drawn.shape, rng), drawn)

    def grid(self) -> Array:
        """Give points between which the density hardly changes, in order, [N, G]."""
        own = self.experts.grid()
        ends = np.linspace(self.noise.low, self.noise.high, FINENESS)
        if self.noise.whole:
            return list_counts(np.minimum(own[:, 0], self.noise.low),
                                  np.maximum(own[:, -1], self.noise.high))  # fmt: skip
        return np.sort(np.concatenate([own, np.broadcast_to(ends, (len(own), FINENESS))], 1), 1)

    def highest_density(self, level: float = 0.9) -> list[Array]:
        """Give each row's smallest set with this chance, as intervals: [I, 2] a row."""
        return find_highest_density(self, level, whole=self.noise.whole)


def bisect_counts(cdf: Callable[[Array], Array], level: float, low: Array, high: Array) -> Array:
    """Find the least counts whose distribution reaches a level, [N]; none at ``low`` does."""
    while (high - low > 1).any():
        half, split = np.floor(0.5 * (low + high)), high - low > 1
        under = cdf(half) < level
        low, high = np.where(split & under, half, low), np.where(split & ~under, half, high)
    return high


def line_up_responses(y: Any, lines_NK: Array) -> Array:
    """Give one response per row as a column, [N, 1]; refuse any other shape."""
    y_N = np.asarray(y, dtype=np.float64)
    if y_N.shape != (len(lines_NK),):
        raise ValueError(
            f"y has shape {y_N.shape} for predictions of {len(lines_NK)} rows; give one response "
            "per row, [N]"
        )
    return y_N[:, None]


def draw_labels(weights_NK: Array, size: int, rng: np.random.Generator) -> Array:
    """Draw experts for every row, [N, size]."""
    if size < 0:
        raise ValueError(f"{size=} draws per row; give a whole number of at least 0")
    below = weights_NK.cumsum(1)[:, None, :-1]
    return (rng.random((len(weights_NK), size))[..., None] > below).sum(-1)


def find_quantiles(find: Callable[[float], Array], level: Any) -> Array:
    """Give the quantiles of one level, [N], or of several, [N, L]."""
    levels = np.asarray(level, dtype=np.float64)
    bad = levels[~((levels > 0) & (levels < 1))]
    if bad.size:
        raise ValueError(f"level={bad.flat[0]} is no quantile level; choose one between 0 and 1")
    if levels.ndim == 0:
        return find(float(levels))
    return np.stack([find(float(one)) for one in levels.ravel()], 1)


def find_interval(quantile: Callable[[float], Array], level: float) -> tuple[Array, Array]:
    """Give the quantiles that leave out as much on either side, [N] and [N]."""
    check_level(level, "chance of an interval")
    return quantile(0.5 * (1 - level)), quantile(0.5 * (1 + level))


def bisect_quantile(cdf: Callable[[Array], Array], level: float, low: Array, high: Array) -> Array:
    """Find where distribution functions reach a level, between bounds, [N]."""
    for _ in range(60):
        half = 0.5 * (low + high)
        under = cdf(half) < level
        low, high = np.where(under, half, low), np.where(under, high, half)
    return 0.5 * (low + high)
