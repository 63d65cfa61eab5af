"""EM steps of all workers together: each sends sums of its rows, and the server moves.

Letters: S support rows, D columns with the constant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moiety.mixtures.em import Prior, Sums, compute_penalised_likelihood, make_m_step
from moiety.mixtures.experts import GaussianExperts
from moiety.mixtures.inputs import Support
from moiety.mixtures.logit import Array
from moiety.mixtures.model import Mixture
from moiety.mixtures.scale import StandardScale, find_varying, goes_with_scale

LARGEST_CHANGE = 3.0  # the largest typical change of a log-odds that one round may make


def measure_centre(support: Support) -> tuple[Array, Array]:
    """Give the means and spreads of the support's covariates."""
    u_S = support.weights / support.weights.sum()
    mean = u_S @ support.x
    return mean, np.sqrt(u_S @ (support.x - mean) ** 2)


def make_common_scale(mixture: Mixture, support: Support) -> StandardScale:
    """Give units in which all workers can add their sums."""
    return make_scale_at(mixture, *measure_centre(support))


def make_scale_at(mixture: Mixture, mean: Array, spread: Array) -> StandardScale:
    """Give common units from means and spreads of covariates, [d] and [d]."""
    factor = 1.0
    if isinstance(mixture.experts, GaussianExperts):
        factor = float(np.sqrt(mixture.experts.variances.max()))
    elif goes_with_scale(mixture.experts):
        factor = float(np.sqrt(mixture.experts.spreads[0].max()))
    kept = find_varying(mean, spread)
    return StandardScale(mean[kept], spread[kept], kept, 0.0, factor)


@dataclass(frozen=True)
class PooledPoint:
    """A mixture, the sums of all rows there, and how much of a step was made from it."""

    mixture: Mixture
    sums: Sums
    step_size: float


def step_pooled(
    here: PooledPoint, best: PooledPoint | None, prior: Prior, x_SD: Array
) -> tuple[Mixture, PooledPoint]:
    """Make one pooled EM step, in standardised units.

    A move that turns out, in the next round, to have lowered the likelihood is halved. Nobody looks
    after the last one, so no move may change the gate's log-odds at the support by more than a
    stride: where gates saturate, their information vanishes and Newton's step goes anywhere.

    Args:
        here: the mixture that all looked at, and the sums that they sent.
        best: the point from which that mixture was reached, none in the first round.
        prior: ridge and variance floor.
        x_SD: the support in standardised units, with the constant.

    Returns:
        The next mixture, and the point from which it was reached.
    """
    if best is not None and _evaluate(here, prior) < _evaluate(best, prior):
        here = PooledPoint(best.mixture, best.sums, 0.5 * best.step_size)
    whole = make_m_step(here.mixture, here.sums, prior, step_size=here.step_size)
    change = np.sqrt(np.mean((x_SD @ (whole.gate - here.mixture.gate)) ** 2, 0)).max()
    short = here.step_size * min(1.0, LARGEST_CHANGE / max(change, 1e-300))
    shortened = short != here.step_size
    moved = make_m_step(here.mixture, here.sums, prior, step_size=short) if shortened else whole
    return moved, here


def _evaluate(point: PooledPoint, prior: Prior) -> float:
    return compute_penalised_likelihood(point.mixture, point.sums, prior)
