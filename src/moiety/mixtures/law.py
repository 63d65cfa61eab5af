"""What a family of experts is: a law of the response around a line.

Letters: N rows, K experts, P spreads.

Every function is of one response, one line and the spreads of its expert, and broadcasts: lines
[..., K], responses of a shape that broadcasts with them, spreads [P, ...].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from moiety.mixtures.experts import StepOptions
from moiety.mixtures.logit import Array

LARGEST_LINE = 30.0  # beyond it an exponential says no more than that a step went astray
FLOOR_MARGIN = 1e-6  # a spread this near to the least, relative, rests on it
NODE_LEVELS = (np.arange(9) + 0.5) / 9  # quantiles that stand for a distribution, equally weighed


@dataclass(frozen=True)
class Derivatives:
    """Of a log density, in its line and in the logarithms of its spreads.

    Args:
        line: first derivative in the line.
        bend: minus the second one.
        spreads: first derivatives in the log spreads, [P, ...].
        cross: minus the mixed ones, [P, ...].
        bends: minus the second ones, [P, P, ...].
    """

    line: Array
    bend: Array
    spreads: Array
    cross: Array
    bends: Array


@dataclass(frozen=True)
class LawSums:
    """What rows say of lines and spreads, each weighed by its share.

    Args:
        curves: weights of the Newton step in the line.
        slopes: first derivatives in the line.
        terms: what is summed for the spreads; the first are squared residuals of any kind.
    """

    curves: Array
    slopes: Array
    terms: tuple[Array, ...]


class Law(Protocol):
    """A conditional law of the response; ``lines`` are what is linear in the covariates."""

    @property
    def name(self) -> str:
        """Give the name by which users choose it."""
        ...

    @property
    def spread_names(self) -> tuple[str, ...]:
        """Name the parameters beside the line, all positive."""
        ...

    @property
    def moves(self) -> bool:
        """Tell whether the law goes with shifts and scales of the response."""
        ...

    @property
    def whole(self) -> bool:
        """Tell whether responses are whole numbers."""
        ...

    def check(self, y: Array, /) -> None:
        """Refuse responses that the law cannot give."""
        ...

    def link(self, y: Array, /) -> Array:
        """Give responses on the scale of the line: where starts are made."""
        ...

    def begin(self, variance_K: Array, /) -> Array:
        """Give first spreads [P, K] from the variance of linked responses around the lines."""
        ...

    def hold(self, lines: Array, /) -> Array:
        """Hold lines where the law can be computed."""
        ...

    def log_density(self, lines: Array, y: Array, spreads: Array, /) -> Array:
        """Give the log density."""
        ...

    def prepare_step(self, lines: Array, y: Array, spreads: Array, shares: Array, /) -> LawSums:
        """Give what the M-step needs of every row."""
        ...

    def move(self, spreads: Array, sums: Array, change_K: Array, options: StepOptions, /) -> Array:
        """Make the M-step of the spreads.

        Args:
            spreads: where they are, [P, K].
            sums: of the terms of a prepared step, [R, K].
            change_K: what the step of the lines changes the weighed squares by.
            options: ridge, floor, and the part of a step taken.
        """
        ...

    def hold_spreads(self, spreads: Array, floor: float, /) -> Array:
        """Hold spreads where they may be."""
        ...

    def soften(self, spreads: Array, /) -> Array:
        """Widen experts that are far narrower than the others, which would trap EM."""
        ...

    def is_floored(self, spreads: Array, floor: float, /) -> Array:
        """Tell which experts rest on the least spread, [K]."""
        ...

    def differentiate(self, lines: Array, y: Array, spreads: Array, /) -> Derivatives:
        """Give the derivatives of the log density."""
        ...

    def mean(self, lines: Array, spreads: Array, /) -> Array:
        """Give the mean."""
        ...

    def variance(self, lines: Array, spreads: Array, /) -> Array:
        """Give the variance."""
        ...

    def cdf(self, lines: Array, y: Array, spreads: Array, /) -> Array:
        """Give the chance of at most y."""
        ...

    def quantile(self, lines: Array, level: Array, spreads: Array, /) -> Array:
        """Give the least response whose chance reaches the level."""
        ...

    def draw(self, lines: Array, spreads: Array, rng: np.random.Generator, /) -> Array:
        """Draw one response for every line."""
        ...


def check_whole_numbers(y: Array, most: float = np.inf) -> None:
    """Refuse responses that are no counts, or larger than the most there may be."""
    bad = np.flatnonzero((y < 0) | (y != np.floor(y)))
    if len(bad):
        raise ValueError(
            f"the response {y[bad[0]]} of row {bad[0]} is no count; give whole numbers of at least "
            "0, or choose family='normal'"
        )
    over = np.flatnonzero(y > most)
    if len(over):
        raise ValueError(
            f"the response {y[over[0]]} of row {over[0]} is more than trials={most:g}; give "
            "successes in so many trials"
        )


def hold_line(lines: Array) -> Array:
    """Hold lines where an exponential can be computed."""
    return np.clip(lines, -LARGEST_LINE, LARGEST_LINE)


def find_least_count(law: Law, lines: Array, level: Array, spreads: Array) -> Array:
    """Give the least counts whose distribution reaches the levels, by bisection."""
    mean = law.mean(lines, spreads)
    lines, level, mean = np.broadcast_arrays(lines, level, mean)
    low, high = np.full(mean.shape, -1.0), np.maximum(np.ceil(2 * mean), 1.0)
    while (short := law.cdf(lines, high, spreads) < level).any():
        low, high = np.where(short, high, low), np.where(short, 2 * high, high)
    while (high - low > 1).any():
        half = np.floor(0.5 * (low + high))
        under = law.cdf(lines, half, spreads) < level
        split = high - low > 1
        low, high = np.where(split & under, half, low), np.where(split & ~under, half, high)
    return high
