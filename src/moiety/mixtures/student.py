"""Experts for numbers with wild ones among them: regressions with Student's t noise.

The EM step of the lines weighs a row less the farther it lies from them, so that no single
response can own an expert.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moiety.mixtures.experts import LARGEST_LOG_STEP, StepOptions
from moiety.mixtures.law import FLOOR_MARGIN, Derivatives, LawSums
from moiety.mixtures.logit import Array
from moiety.mixtures.special import digamma, log_gamma, trigamma

LEAST_FREEDOM, LARGEST_FREEDOM = 1.0, 200.0  # Cauchy's law, and all but the normal one
FIRST_FREEDOM = 5.0


@dataclass(frozen=True)
class Student:
    """Numbers around a line; spreads are squared scales, and degrees of freedom."""

    name: str = "student"
    spread_names: tuple[str, ...] = ("squared_scales", "degrees_of_freedom")
    moves: bool = True
    whole: bool = False

    def check(self, y: Array, /) -> None:
        """Take any number."""

    def link(self, y: Array, /) -> Array:
        return y

    def begin(self, variance_K: Array, /) -> Array:
        return np.stack(
            [np.maximum(0.6 * variance_K, 1e-6), np.full(len(variance_K), FIRST_FREEDOM)]
        )

    def hold(self, lines: Array, /) -> Array:
        return lines

    def log_density(self, lines: Array, y: Array, spreads: Array, /) -> Array:
        square, free = spreads
        constant = log_gamma(0.5 * (free + 1)) - log_gamma(0.5 * free)
        constant = constant - 0.5 * np.log(np.pi * free * square)
        return constant - 0.5 * (free + 1) * np.log1p((y - lines) ** 2 / (free * square))

    def prepare_step(self, lines: Array, y: Array, spreads: Array, shares: Array, /) -> LawSums:
        square, free = spreads
        gap = y - lines
        weight = (free + 1) / (free + gap**2 / square)
        weighed = shares * weight
        terms = (weighed * gap**2, shares * np.ones_like(gap), weighed, shares * np.log(weight))
        return LawSums(weighed / square, weighed * gap / square, terms)

    def move(self, spreads: Array, sums: Array, change_K: Array, options: StepOptions, /) -> Array:
        """Make the EM step of the squared scales, and a scoring step of the log freedoms."""
        (square, free), (left, mass, weight, logs) = spreads, sums
        held = (mass > 0) & (weight > 0)
        some = np.where(held, weight, 1.0)
        best = np.maximum((left + change_K * square) / some, options.floor)
        moved = np.where(held, square * (best / square) ** options.step_size, square)
        slope = 0.5 * free * (mass * (balance(free) + 1) + logs - weight)
        known = mass * free**2 * inform_freedom(free)
        step = np.clip(slope / np.where(held, known, 1.0), -LARGEST_LOG_STEP, LARGEST_LOG_STEP)
        freed = np.clip(free * np.exp(options.step_size * step), LEAST_FREEDOM, LARGEST_FREEDOM)
        return np.stack([np.maximum(moved, options.floor), np.where(held, freed, free)])

    def hold_spreads(self, spreads: Array, floor: float, /) -> Array:
        freed = np.clip(spreads[1], LEAST_FREEDOM, LARGEST_FREEDOM)
        return np.stack([np.maximum(spreads[0], floor), freed])

    def soften(self, spreads: Array, /) -> Array:
        least = max(0.01 * float(spreads[0].mean()), 1e-6)
        return np.stack([np.maximum(spreads[0], least), spreads[1]])

    def is_floored(self, spreads: Array, floor: float, /) -> Array:
        return spreads[0] <= floor * (1 + FLOOR_MARGIN)

    def differentiate(self, lines: Array, y: Array, spreads: Array, /) -> Derivatives:
        square, free = spreads
        gap = y - lines
        far = gap**2 / square  # in squared scales
        whole = free + far
        weight = (free + 1) / whole
        line = weight * gap / square
        bend = weight / square * (free - far) / whole
        scale = 0.5 * (weight * far - 1)
        freed = 0.5 * free * (balance(free) + 1 + np.log(weight) - weight)
        cross = np.stack(
            [weight * gap / square * free / whole, -free * gap / square * (far - 1) / whole**2]
        )
        tilt = -0.5 * free * far * (far - 1) / whole**2
        first = 0.25 * trigamma(0.5 * (free + 1)) - 0.25 * trigamma(0.5 * free)
        slope = first + 0.5 / free - 0.5 / (free + 1)
        slope = slope + 0.5 * (far - 1) * (1 - weight) / (whole * (free + 1))
        bends = np.array(
            [[0.5 * weight * far * free / whole, tilt], [tilt, -(freed + free**2 * slope)]]
        )
        return Derivatives(line, bend, np.stack([scale, freed]), cross, bends)

    def mean(self, lines: Array, spreads: Array, /) -> Array:
        """Give the line: the mean where there is one, the median always."""
        return lines

    def variance(self, lines: Array, spreads: Array, /) -> Array:
        """Give the variance, infinite for at most two degrees of freedom."""
        square, free = spreads
        with np.errstate(divide="ignore"):
            found = np.where(free > 2, square * free / np.maximum(free - 2, 0.0), np.inf)
        return np.broadcast_to(found, np.broadcast_shapes(lines.shape, found.shape))

    def cdf(self, lines: Array, y: Array, spreads: Array, /) -> Array:
        from scipy.special import stdtr  # scipy comes with the extra of the estimators

        return stdtr(spreads[1], (y - lines) / np.sqrt(spreads[0]))

    def quantile(self, lines: Array, level: Array, spreads: Array, /) -> Array:
        from scipy.special import stdtrit  # scipy comes with the extra of the estimators

        return lines + np.sqrt(spreads[0]) * stdtrit(spreads[1], level)

    def draw(self, lines: Array, spreads: Array, rng: np.random.Generator, /) -> Array:
        free = np.broadcast_to(spreads[1], lines.shape)
        return lines + np.sqrt(spreads[0]) * rng.standard_t(free)


def balance(free: Array) -> Array:
    """Give what normalises the law, differentiated twice in the degrees of freedom."""
    first = digamma(0.5 * (free + 1)) - np.log(free + 1)
    return first - digamma(0.5 * free) + np.log(free)


def inform_freedom(free: Array) -> Array:
    """Give the expected information of one row on the degrees of freedom."""
    first = 0.25 * (trigamma(0.5 * free) - trigamma(0.5 * (free + 1)))
    found = first - 0.5 * (free + 5) / (free * (free + 1) * (free + 3))
    return np.maximum(found, 1e-3 * free**-4.0)
