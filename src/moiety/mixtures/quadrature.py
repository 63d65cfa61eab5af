"""What it costs to carry one expert to another, where the law is known at points.

Letters: S support rows, D columns with the constant, L local experts, K reduced experts, Q points.

A mean of log densities over points that are true to the law is its KL divergence but for a term of
the local expert alone; the reduced experts are fitted to the same points, so that no step loses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from moiety.mixtures.experts import StepOptions
from moiety.mixtures.linked import LinkedExperts
from moiety.mixtures.logit import Array, weighted_grams
from moiety.mixtures.special import digamma

Place = Callable[[LinkedExperts, Array], tuple[Array, Array]]
CLIMB_STEPS, CLIMB_HALVINGS = 50, 12  # the most Newton steps of an expert, and halvings of one
CLIMB_GAIN = 1e-11  # a gain, relative, that is worth no further step
STUDENT_POINTS, STUDENT_REACH = 32, 14.0  # beyond the reach a t law has a chance of about 1e-6


@dataclass(frozen=True)
class PointsKL:
    """KL from local to reduced experts of one law, at points placed for every local expert.

    Args:
        place: gives points and weights [S, L, Q] of experts whose lines are given, [S, L]. The
            divergence is exact where log densities of the family differ linearly in what the points
            are true to.
    """

    place: Place

    def between(self, x_SD: Array, local: LinkedExperts, reduced: LinkedExperts, /) -> Array:
        """Give the divergences, [K, S, L]."""
        law, lines = local.law, local.lines(x_SD)
        y_SLQ, share_SLQ = self.place(local, lines)
        own = law.log_density(lines[..., None], y_SLQ, local.spreads[:, None, :, None])
        others, found = reduced.lines(x_SD), []
        for k in range(others.shape[1]):
            told = law.log_density(others[:, k, None, None], y_SLQ, reduced.spreads[:, k, None])
            found.append((share_SLQ * (own - told)).sum(-1))
        return np.stack(found)

    def update(
        self, x_SD: Array, plan_KSL: Array, local: LinkedExperts, reduced: LinkedExperts, /
    ) -> LinkedExperts:
        """Fit each reduced expert to the points carried to it."""
        y_SLQ, share_SLQ = self.place(local, local.lines(x_SD))
        coef, spreads = reduced.coef.copy(), reduced.spreads.copy()
        for k in np.flatnonzero(plan_KSL.sum((1, 2)) > 0):
            weights = plan_KSL[k][:, :, None] * share_SLQ
            fitted = fit_points(x_SD, y_SLQ, weights, reduced.pick(np.array([k])))
            coef[:, k], spreads[:, k] = fitted.coef[:, 0], fitted.spreads[:, 0]
        return replace(reduced, coef=coef, spreads=spreads)


def fit_points(
    x_SD: Array, y_SLQ: Array, weights_SLQ: Array, start: LinkedExperts
) -> LinkedExperts:
    """Maximise the mean log density of one expert at weighed points, by its own M-steps."""

    def value(one: LinkedExperts) -> float:
        lines = one.lines(x_SD)[:, :, None]
        return float(
            (weights_SLQ * one.law.log_density(lines, y_SLQ, one.spreads[..., None])).sum()
        )

    def move(one: LinkedExperts, step_size: float) -> LinkedExperts:
        lines = one.lines(x_SD)[:, :, None]
        found = one.law.prepare_step(lines, y_SLQ, one.spreads[..., None], weights_SLQ)
        gram = weighted_grams(x_SD, found.curves.sum((1, 2))[:, None])
        slope = x_SD.T @ found.slopes.sum((1, 2))[:, None]
        sums = np.array([[term.sum()] for term in found.terms])
        return one.advance(gram, slope, sums, StepOptions(0.0, 0.0, step_size))

    return climb_steps(start, value, move)


def climb_steps(
    start: LinkedExperts,
    value: Callable[[LinkedExperts], float],
    move: Callable[[LinkedExperts, float], LinkedExperts],
) -> LinkedExperts:
    """Climb by steps of which none loses: each is halved while it would."""
    here, best = start, value(start)
    for _ in range(CLIMB_STEPS):
        gained = 0.0
        for halving in range(CLIMB_HALVINGS):
            trial = move(here, 0.5**halving)
            gained = value(trial) - best
            if gained >= 0:
                here, best = trial, best + gained
                break
        if gained <= CLIMB_GAIN * abs(best):
            break
    return here


def place_means(local: LinkedExperts, lines_SL: Array) -> tuple[Array, Array]:
    """Give the means: for laws whose log densities differ linearly in the response."""
    mean = local.law.mean(lines_SL, local.spreads[:, None])
    return mean[..., None], np.ones((*mean.shape, 1))


def place_gamma_points(local: LinkedExperts, lines_SL: Array) -> tuple[Array, Array]:
    """Give two points with the mean and mean logarithm of gamma laws, in which they differ."""
    shape = local.spreads[0]
    fall = digamma(shape) - np.log(shape)  # of the mean logarithm below that of the mean
    apart = np.sqrt(-np.expm1(2 * fall))[:, None] * np.array([-1.0, 1.0])
    points = np.exp(lines_SL)[..., None] * (1 + apart)
    return points, np.full(points.shape, 0.5)


def place_student_points(local: LinkedExperts, lines_SL: Array) -> tuple[Array, Array]:
    """Give points for t laws: even steps on a scale on which their tails fall as exponentials."""
    square, free = local.spreads[:, :, None]
    at = np.linspace(-1, 1, STUDENT_POINTS) * np.clip(STUDENT_REACH / free, 3.0, None)
    standard = np.sinh(at)
    weights = np.exp(-0.5 * (free + 1) * np.log1p(standard**2 / free)) * np.cosh(at)
    weights = weights / weights.sum(1, keepdims=True)
    points = lines_SL[..., None] + np.sqrt(square) * standard
    return points, np.broadcast_to(weights, points.shape)
