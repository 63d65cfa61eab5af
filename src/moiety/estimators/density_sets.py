"""The smallest sets in which responses lie with a given chance.

Letters: N rows, G points, I intervals.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from moiety.estimators.options import check_level
from moiety.mixtures.logit import Array

FINENESS = 401  # points at which a density is looked at, per expert
FINE_STEPS = np.linspace(-6, 6, FINENESS)  # in standard deviations of a normal
NEVER = 1e-13  # the chance of a cell that no set needs


class Density(Protocol):
    """A predictive distribution per row."""

    def cdf(self, y: Array, /) -> Array:
        """Give the chance of at most y, one y per row, [N]."""
        ...

    def grid(self) -> Array:
        """Give points in order, [N, G]."""
        ...


def list_counts(low_N: Array, high_N: Array) -> Array:
    """Give the whole numbers before and between bounds, [N, G]; short rows repeat their last."""
    steps = np.arange(-1, int((high_N - low_N).max()) + 1)
    return np.minimum(low_N[:, None] + steps, high_N[:, None])


def find_highest_density(found: Density, level: float, *, whole: bool = False) -> list[Array]:
    """Give each row's smallest set with at least this chance, as intervals in order, [I, 2].

    The line is cut into cells in which the density hardly changes; the densest ones are taken until
    their chance reaches the level. Of counts, an interval holds both its ends.

    Args:
        found: the distributions.
        level: between 0 and 1.
        whole: responses are whole numbers.
    """
    check_level(level, "chance of a set")
    points = found.grid()
    below = np.stack([found.cdf(column) for column in points.T], 1)
    chance, width = np.diff(below), np.diff(points)
    density = np.where(width > 0, chance / np.where(width > 0, width, 1.0), 0.0)
    order = np.argsort(-density, 1, kind="stable")
    reached = np.cumsum(np.take_along_axis(chance, order, 1), 1)
    need = np.minimum((reached < level).sum(1), reached.shape[1] - 1)
    taken = np.zeros(chance.shape, bool)
    np.put_along_axis(taken, order, np.arange(chance.shape[1]) <= need[:, None], 1)
    taken &= (width > 0) & (chance > NEVER)
    return [join_cells(*row, whole=whole) for row in zip(points, taken, width, strict=True)]


def join_cells(points_G: Array, taken: Array, width: Array, *, whole: bool) -> Array:
    """Join neighbouring cells to intervals, [I, 2]."""
    held = width > 0  # empty cells, where points coincide, part no neighbours
    left, right, taken = points_G[:-1][held], points_G[1:][held], taken[held]
    edges = np.diff(np.concatenate([[False], taken, [False]]).astype(int))
    first, last = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1
    return np.stack([right[first] if whole else left[first], right[last]], 1)
