"""Experts whose likelihood means nothing: at the least variance, or with hardly a row of their own.

Letters: N rows, D columns with the constant, K experts.

The density of a normal expert has no upper bound: on rows that share one response, or that are no
more than its coefficients, its variance falls until the floor holds it. What the likelihood is
then, and any criterion made of it, is decided by the floor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moiety.mixtures.experts import Experts, GaussianExperts
from moiety.mixtures.linked import LinkedExperts
from moiety.mixtures.logit import Array
from moiety.mixtures.model import Mixture, responsibilities

ON_FLOOR = 1 + 1e-6  # a variance above the floor by less rests on it
NORMAL_QUARTILES = 1.349  # between the quartiles of a standard normal


def measure_robust_variance(y: Array, weights: Array) -> float:
    """Give the squared spread between the quartiles, as of a normal, and at most the variance.

    Where half the rows share one response there is no such spread, and the variance is given.

    >>> y = np.append(np.arange(8.0), 1e6)
    >>> round(measure_robust_variance(y, np.ones(9)), 2)
    8.79
    """
    order = np.argsort(y, kind="stable")
    below = np.cumsum(weights[order])
    low, high = y[order][np.searchsorted(below, np.array([0.25, 0.75]) * below[-1])]
    variance = float(np.average((y - np.average(y, weights=weights)) ** 2, weights=weights))
    robust = (float(high - low) / NORMAL_QUARTILES) ** 2
    return min(variance, robust) if robust else variance


def find_floored(experts: Experts, floor: float) -> Array:
    """Tell which experts rest on the least variance, [K]."""
    if isinstance(experts, GaussianExperts):
        return experts.variances <= floor * ON_FLOOR
    if isinstance(experts, LinkedExperts):
        return experts.law.is_floored(experts.spreads, floor)
    return np.zeros(experts.coef.shape[1], bool)


@dataclass(frozen=True)
class Ties:
    """The response that most rows of a floored expert share: how many rows, of how many in all."""

    expert: int
    value: float
    rows: int
    total: int


def count_ties(mixture: Mixture, x_ND: Array, y: Array, floored: Array) -> tuple[Ties, ...]:
    """Count what the rows of floored experts share; an expert without rows is left out."""
    if not floored.any():
        return ()
    owner = responsibilities(mixture, x_ND, y).argmax(1)
    found = []
    for expert in np.flatnonzero(floored):
        values, counts = np.unique(y[owner == expert], return_counts=True)
        if len(values):
            most = int(counts.argmax())
            found.append(Ties(int(expert), float(values[most]), int(counts[most]), len(y)))
    return tuple(found)


def count_effective_rows(mixture: Mixture, x_ND: Array, y: Array) -> Array:
    """Count the rows on which each expert's line rests, (sum c)^2 / sum c^2, [K].

    ``c`` is a row's part of the information of the line: its responsibility, times the mean where
    that is the variance. A count of a million weighs as much as a million rows with a count of one.
    Where ``c`` is the responsibility alone, which is at most 1, no fewer rows carry an expert than
    it owns: infinity is given, and no pass over the rows is made.
    """
    experts = mixture.experts
    if not isinstance(experts, LinkedExperts):
        return np.full(mixture.num_experts, np.inf)
    shares = responsibilities(mixture, x_ND, y)
    parts = experts.prepare_step(experts.lines(x_ND), y, shares).curves
    squares = (parts**2).sum(0)
    return np.divide(parts.sum(0) ** 2, squares, out=np.zeros_like(squares), where=squares > 0)


def find_starved(mixture: Mixture, mass_K: Array, effective_K: Array) -> Array:
    """Tell which experts own, or rest on, fewer rows than they have parameters, [K]."""
    own = mixture.experts.size() / mixture.num_experts
    return np.minimum(mass_K, effective_K) < own
