"""What it costs to carry one expert to another. Letters: S support rows, D columns with the constant,
L local experts, K reduced experts, G classes.

Each cost knows its exact minimiser for a given plan, so that a transport step never loses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from moiety.ops.mixture.experts import Categorical, Experts, Gaussian
from moiety.ops.mixture.logit import Array, fit_logit, solve, weighted_grams


X = TypeVar("X", Gaussian, Categorical)


class Cost(Protocol[X]):
    """A divergence between experts at every support row, and the experts nearest to a plan."""

    def between(self, x_SD: Array, local: X, reduced: X, /) -> Array:
        """Give the cost of carrying l to k at s, [S, L, K]."""
        ...

    def update(self, x_SD: Array, plan_SLK: Array, local: X, reduced: X, /) -> X:
        """Give the reduced experts of least cost under a plan; one without mass stays."""
        ...


def gaps(x_SD: Array, local: Experts, reduced: Experts) -> Array:
    """Give the squared distances of means, [S, L, K]."""
    return (local.lines(x_SD)[:, :, None] - reduced.lines(x_SD)[:, None, :]) ** 2


def regress(x_SD: Array, weights_SLK: Array, local: Gaussian, reduced: Gaussian) -> Array:
    """Fit each reduced mean to the local means by weighted least squares, [D, K].

    The step from the present coefficients is solved for, so that what the support cannot tell stays.
    """
    means, old = local.lines(x_SD), reduced.lines(x_SD)
    pull = np.einsum("slk,sl->sk", weights_SLK, means) - weights_SLK.sum(1) * old
    grams, right = weighted_grams(x_SD, weights_SLK.sum(1)), x_SD.T @ pull
    steps = [solve(gram, right[:, k]) for k, gram in enumerate(grams)]
    return reduced.coef + np.stack(steps, 1)


def mean_over(weights_SLK: Array, values: Array, fallback: Array) -> Array:
    """Average values [S, L, K] or [L, 1] under weights, per k; without mass, the fallback."""
    mass = weights_SLK.sum((0, 1))
    mean = (weights_SLK * values).sum((0, 1)) / np.where(mass > 0, mass, 1.0)
    return np.where(mass > 0, mean, fallback)


@dataclass(frozen=True)
class ForwardKL:
    """KL from local to reduced Gaussian; ``exact=False`` drops the spread of the local means.

    Without that spread the variance is only the mean of the local ones, which is what the published
    code computes; it does not minimise the objective.
    """

    exact: bool = True

    def between(self, x_SD: Array, local: Gaussian, reduced: Gaussian, /) -> Array:
        """Give the divergences."""
        ratio = local.variances[:, None] / reduced.variances
        gap = gaps(x_SD, local, reduced) / reduced.variances
        return 0.5 * (ratio - 1 - np.log(ratio) + gap)

    def update(
        self, x_SD: Array, plan_SLK: Array, local: Gaussian, reduced: Gaussian, /
    ) -> Gaussian:
        """Give weighted least squares, and the mean variance plus the spread of the means."""
        moved = Gaussian(regress(x_SD, plan_SLK, local, reduced), reduced.variances)
        spread = gaps(x_SD, local, moved) if self.exact else 0.0
        values = local.variances[:, None] + spread
        return Gaussian(moved.coef, mean_over(plan_SLK, values, reduced.variances))


@dataclass(frozen=True)
class ReverseKL:
    """KL from reduced to local Gaussian."""

    def between(self, x_SD: Array, local: Gaussian, reduced: Gaussian, /) -> Array:
        """Give the divergences."""
        ratio = reduced.variances / local.variances[:, None]
        gap = gaps(x_SD, local, reduced) / local.variances[:, None]
        return 0.5 * (ratio - 1 - np.log(ratio) + gap)

    def update(
        self, x_SD: Array, plan_SLK: Array, local: Gaussian, reduced: Gaussian, /
    ) -> Gaussian:
        """Give least squares with weights over variances, and the harmonic mean variance."""
        precise = plan_SLK / local.variances[:, None]
        inverse = mean_over(plan_SLK, 1 / local.variances[:, None], 1 / reduced.variances)
        return Gaussian(regress(x_SD, precise, local, reduced), 1 / inverse)


@dataclass(frozen=True)
class Wasserstein:
    """Squared 2-Wasserstein distance of Gaussians."""

    def between(self, x_SD: Array, local: Gaussian, reduced: Gaussian, /) -> Array:
        """Give the squared distances."""
        roots = np.sqrt(local.variances)[:, None] - np.sqrt(reduced.variances)
        return gaps(x_SD, local, reduced) + roots**2

    def update(
        self, x_SD: Array, plan_SLK: Array, local: Gaussian, reduced: Gaussian, /
    ) -> Gaussian:
        """Give weighted least squares and the mean standard deviation."""
        root = mean_over(plan_SLK, np.sqrt(local.variances)[:, None], np.sqrt(reduced.variances))
        return Gaussian(regress(x_SD, plan_SLK, local, reduced), root**2)


@dataclass(frozen=True)
class CategoricalKL:
    """KL from local to reduced class probabilities."""

    def between(self, x_SD: Array, local: Categorical, reduced: Categorical, /) -> Array:
        """Give the divergences."""
        logs = local.lines(x_SD)
        probs = np.exp(logs)
        own = (probs * logs).sum(-1)
        return own[:, :, None] - np.einsum("slg,skg->slk", probs, reduced.lines(x_SD))

    def update(
        self, x_SD: Array, plan_SLK: Array, local: Categorical, reduced: Categorical, /
    ) -> Categorical:
        """Fit a weighted logit to the class probabilities carried to each expert."""
        carried = np.einsum("slk,slg->skg", plan_SLK, np.exp(local.lines(x_SD)))
        mass, coef = plan_SLK.sum(1), reduced.coef.copy()
        for k in np.flatnonzero(mass.sum(0) > 0):
            rows = mass[:, k] > 0
            target = carried[rows, k] / mass[rows, k, None]
            coef[:, k] = fit_logit(x_SD[rows], target, mass[rows, k], coef[:, k])
        return Categorical(coef)


GAUSSIAN_COSTS: dict[str, Cost[Gaussian]] = {
    "kl": ForwardKL(),
    "kl_reference": ForwardKL(exact=False),
    "reverse_kl": ReverseKL(),
    "w2": Wasserstein(),
}
CATEGORICAL_COSTS: dict[str, Cost[Categorical]] = {"kl": CategoricalKL()}
