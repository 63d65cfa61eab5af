"""What it costs to carry one expert to another.

Letters: S support rows, D columns with the constant, L local experts, K reduced experts, G
classes.

Each cost knows its exact minimiser for a given plan, so that a transport step never loses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from moiety.mixtures.categorical import CategoricalExperts
from moiety.mixtures.counts import PoissonKL
from moiety.mixtures.experts import Experts, GaussianExperts
from moiety.mixtures.law import Law
from moiety.mixtures.linked import LinkedExperts
from moiety.mixtures.logit import Array, fit_logit, solve_symmetric, weighted_grams
from moiety.mixtures.model import E
from moiety.mixtures.negative_binomial_cost import NegativeBinomialKL
from moiety.mixtures.quadrature import (
    PointsKL,
    place_gamma_points,
    place_means,
    place_student_points,
)


class Cost(Protocol[E]):
    """A divergence between experts at every support row, and the experts nearest to a plan."""

    def between(self, x_SD: Array, local: E, reduced: E, /) -> Array:
        """Give the cost of carrying l to k at s, [K, S, L]."""
        ...

    def update(self, x_SD: Array, plan_KSL: Array, local: E, reduced: E, /) -> E:
        """Give the reduced experts of least cost under a plan; one without mass stays."""
        ...


def square_mean_gaps(x_SD: Array, local: Experts, reduced: Experts) -> Array:
    """Give the squared distances of means, [K, S, L]."""
    return (local.lines(x_SD) - reduced.lines(x_SD).T[:, :, None]) ** 2


def fit_means(
    x_SD: Array, weights_KSL: Array, local: GaussianExperts, reduced: GaussianExperts
) -> Array:
    """Fit each reduced mean to the local means by weighted least squares, [D, K].

    The step from the present coefficients is solved for, so that what the support cannot tell
    stays.
    """
    mass_SK = weights_KSL.sum(-1).T
    sent_SK = (weights_KSL * local.lines(x_SD)).sum(-1).T
    right = x_SD.T @ (sent_SK - mass_SK * reduced.lines(x_SD))
    grams = weighted_grams(x_SD, mass_SK)
    steps = [solve_symmetric(gram, right[:, k]) for k, gram in enumerate(grams)]
    return reduced.coef + np.stack(steps, 1)


def average_values(weights_KSL: Array, values: Array, fallback: Array) -> Array:
    """Average values [K, S, L] or [L] under weights, per k; without mass, the fallback."""
    mass = weights_KSL.sum((1, 2))
    mean = (weights_KSL * values).sum((1, 2)) / np.where(mass > 0, mass, 1.0)
    return np.where(mass > 0, mean, fallback)


@dataclass(frozen=True)
class ForwardKL:
    """KL from local to reduced Gaussian; ``exact=False`` drops the spread of the local means.

    Without that spread the variance is only the mean of the local ones, which is what the published
    code computes; it does not minimise the objective.
    """

    exact: bool = True

    def between(self, x_SD: Array, local: GaussianExperts, reduced: GaussianExperts, /) -> Array:
        """Give the divergences."""
        variances = reduced.variances[:, None, None]
        ratio = local.variances / variances
        gap = square_mean_gaps(x_SD, local, reduced) / variances
        return 0.5 * (ratio - 1 - np.log(ratio) + gap)

    def update(
        self, x_SD: Array, plan_KSL: Array, local: GaussianExperts, reduced: GaussianExperts, /
    ) -> GaussianExperts:
        """Give weighted least squares, and the mean variance plus the spread of the means."""
        moved = GaussianExperts(fit_means(x_SD, plan_KSL, local, reduced), reduced.variances)
        spread = square_mean_gaps(x_SD, local, moved) if self.exact else 0.0
        values = local.variances + spread
        return GaussianExperts(moved.coef, average_values(plan_KSL, values, reduced.variances))


@dataclass(frozen=True)
class ReverseKL:
    """KL from reduced to local Gaussian."""

    def between(self, x_SD: Array, local: GaussianExperts, reduced: GaussianExperts, /) -> Array:
        """Give the divergences."""
        ratio = reduced.variances[:, None, None] / local.variances
        gap = square_mean_gaps(x_SD, local, reduced) / local.variances
        return 0.5 * (ratio - 1 - np.log(ratio) + gap)

    def update(
        self, x_SD: Array, plan_KSL: Array, local: GaussianExperts, reduced: GaussianExperts, /
    ) -> GaussianExperts:
        """Give least squares with weights over variances, and the harmonic mean variance."""
        precise = plan_KSL / local.variances
        inverse = average_values(plan_KSL, 1 / local.variances, 1 / reduced.variances)
        return GaussianExperts(fit_means(x_SD, precise, local, reduced), 1 / inverse)


@dataclass(frozen=True)
class Wasserstein:
    """Squared 2-Wasserstein distance of Gaussians."""

    def between(self, x_SD: Array, local: GaussianExperts, reduced: GaussianExperts, /) -> Array:
        """Give the squared distances."""
        roots = np.sqrt(local.variances) - np.sqrt(reduced.variances)[:, None, None]
        return square_mean_gaps(x_SD, local, reduced) + roots**2

    def update(
        self, x_SD: Array, plan_KSL: Array, local: GaussianExperts, reduced: GaussianExperts, /
    ) -> GaussianExperts:
        """Give weighted least squares and the mean standard deviation."""
        root = average_values(plan_KSL, np.sqrt(local.variances), np.sqrt(reduced.variances))
        return GaussianExperts(fit_means(x_SD, plan_KSL, local, reduced), root**2)


@dataclass(frozen=True)
class CategoricalKL:
    """KL from local to reduced class probabilities."""

    def between(
        self, x_SD: Array, local: CategoricalExperts, reduced: CategoricalExperts, /
    ) -> Array:
        """Give the divergences."""
        logs = local.lines(x_SD)
        probs = np.exp(logs)
        own = (probs * logs).sum(-1)
        return own - np.einsum("slg,skg->ksl", probs, reduced.lines(x_SD))

    def update(
        self,
        x_SD: Array,
        plan_KSL: Array,
        local: CategoricalExperts,
        reduced: CategoricalExperts,
        /,
    ) -> CategoricalExperts:
        """Fit a weighted logit to the class probabilities carried to each expert."""
        carried = np.einsum("ksl,slg->skg", plan_KSL, np.exp(local.lines(x_SD)))
        mass, coef = plan_KSL.sum(-1).T, reduced.coef.copy()
        for k in np.flatnonzero(mass.sum(0) > 0):
            rows = mass[:, k] > 0
            target = carried[rows, k] / mass[rows, k, None]
            coef[:, k] = fit_logit(x_SD[rows], target, mass[rows, k], coef[:, k])
        return CategoricalExperts(coef)


GAUSSIAN_COSTS: dict[str, Cost[GaussianExperts]] = {
    "kl": ForwardKL(),
    "kl_reference": ForwardKL(exact=False),
    "reverse_kl": ReverseKL(),
    "w2": Wasserstein(),
}
CATEGORICAL_COSTS: dict[str, Cost[CategoricalExperts]] = {"kl": CategoricalKL()}
LAW_COSTS: dict[str, dict[str, Cost[LinkedExperts]]] = {
    "poisson": {"kl": PoissonKL()},
    "binomial": {"kl": PointsKL(place_means)},
    "negative_binomial": {"kl": NegativeBinomialKL()},
    "gamma": {"kl": PointsKL(place_gamma_points)},
    "student": {"kl": PointsKL(place_student_points)},
}


def find_law_costs(law: Law) -> dict[str, Cost[LinkedExperts]]:
    """Find the costs that experts of a law have."""
    return LAW_COSTS[law.name]
