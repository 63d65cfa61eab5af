"""Experts for positive responses: gamma regressions with a log link.

The variance is ``mean^2 / shape``, so that experts have a constant coefficient of variation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moiety.mixtures.experts import StepOptions
from moiety.mixtures.law import FLOOR_MARGIN, Derivatives, LawSums, hold_line
from moiety.mixtures.logit import Array
from moiety.mixtures.special import digamma, log_gamma, trigamma

LEAST_SHAPE = 1e-3


@dataclass(frozen=True)
class Gamma:
    """Positive numbers whose log mean is the line, of a shape that each expert has."""

    name: str = "gamma"
    spread_names: tuple[str, ...] = ("shapes",)
    moves: bool = False
    whole: bool = False

    def check(self, y: Array, /) -> None:
        bad = np.flatnonzero(~(y > 0))
        if len(bad):
            raise ValueError(
                f"the response {y[bad[0]]} of row {bad[0]} is not above 0; give positive numbers, "
                "or choose family='normal'"
            )

    def link(self, y: Array, /) -> Array:
        return np.log(y)

    def begin(self, variance_K: Array, /) -> Array:
        return np.clip(1 / np.maximum(variance_K, 1e-300), 0.1, 1e4)[None]

    def hold(self, lines: Array, /) -> Array:
        return hold_line(lines)

    def log_density(self, lines: Array, y: Array, spreads: Array, /) -> Array:
        shape = spreads[0]
        ratio = np.log(y) - lines
        constant = shape * np.log(shape) - log_gamma(shape)
        return constant + shape * (ratio - np.exp(ratio)) - np.log(y)

    def prepare_step(self, lines: Array, y: Array, spreads: Array, shares: Array, /) -> LawSums:
        shape, ratio = spreads[0], y * np.exp(-lines)
        curves = shares * (shape * np.ones_like(ratio))
        terms = (shares * (ratio - 1) ** 2, shares * np.ones_like(ratio),
                 shares * (np.log(ratio) - ratio))  # fmt: skip
        return LawSums(curves, shares * shape * (ratio - 1), terms)

    def move(self, spreads: Array, sums: Array, change_K: Array, options: StepOptions, /) -> Array:
        """Make the maximum in the shape, from the sums at the present lines."""
        held = sums[1] > 0
        excess = -1 - sums[2] / np.where(held, sums[1], 1.0)
        most = 1 / max(options.floor, 1e-12)
        best = solve_shape(np.maximum(excess, 0.5 / most))
        moved = spreads[0] * (best / spreads[0]) ** options.step_size
        return np.where(held, np.clip(moved, LEAST_SHAPE, most), spreads[0])[None]

    def hold_spreads(self, spreads: Array, floor: float, /) -> Array:
        return np.clip(spreads, LEAST_SHAPE, 1 / max(floor, 1e-12))

    def soften(self, spreads: Array, /) -> Array:
        return np.minimum(spreads, 100 * spreads.min())

    def is_floored(self, spreads: Array, floor: float, /) -> Array:
        return spreads[0] >= (1 - FLOOR_MARGIN) / max(floor, 1e-12)

    def differentiate(self, lines: Array, y: Array, spreads: Array, /) -> Derivatives:
        shape, ratio = spreads[0], y * np.exp(-lines)
        line = shape * (ratio - 1)
        first = shape * (np.log(shape) + 1 - digamma(shape) + np.log(ratio) - ratio)
        second = -(first + shape * (1 - shape * trigamma(shape)))
        return Derivatives(line, shape * ratio, first[None], -line[None], second[None, None])

    def mean(self, lines: Array, spreads: Array, /) -> Array:
        return np.exp(lines)

    def variance(self, lines: Array, spreads: Array, /) -> Array:
        return np.exp(2 * lines) / spreads[0]

    def cdf(self, lines: Array, y: Array, spreads: Array, /) -> Array:
        from scipy.special import gammainc  # scipy comes with the extra of the estimators

        return gammainc(spreads[0], spreads[0] * np.maximum(y, 0.0) * np.exp(-lines))

    def quantile(self, lines: Array, level: Array, spreads: Array, /) -> Array:
        from scipy.special import gammaincinv  # scipy comes with the extra of the estimators

        return np.exp(lines) * gammaincinv(spreads[0], level) / spreads[0]

    def draw(self, lines: Array, spreads: Array, rng: np.random.Generator, /) -> Array:
        return np.exp(lines) * rng.gamma(np.broadcast_to(spreads[0], lines.shape)) / spreads[0]


def solve_shape(excess: Array) -> Array:
    """Solve ``log(shape) - digamma(shape) = excess`` for positive excesses.

    >>> solve_shape(np.array([np.log(2.5) - 0.7031566])).round(4).tolist()
    [2.5]
    """
    shape = (3 - excess + np.sqrt((excess - 3) ** 2 + 24 * excess)) / (12 * excess)
    for _ in range(8):
        gap = np.log(shape) - digamma(shape) - excess
        shape = 1 / (1 / shape + gap / (shape**2 * (1 / shape - trigamma(shape))))
    return shape
