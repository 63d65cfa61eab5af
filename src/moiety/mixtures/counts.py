"""Experts for counts: Poisson regressions with a log link.

Letters: N rows, D columns with the constant, K experts, S support rows, L local experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from moiety.mixtures.experts import ExpertDerivatives, StepOptions
from moiety.mixtures.logit import (
    Array,
    make_slope_penalty,
    newton_step,
    solve_symmetric,
    weighted_grams,
)

LARGEST_LOG_RATE = 30.0  # beyond it an exponential says no more than that a step went astray
NODE_LEVELS = (np.arange(9) + 0.5) / 9  # quantiles that stand for a distribution, equally weighed


@dataclass(frozen=True)
class PoissonExperts:
    """Poisson regressions: ``coef`` [D, K], the logarithms of the rates are linear."""

    coef: Array

    def lines(self, x_ND: Array, /) -> Array:
        """Give the logarithms of the rates, [N, K]."""
        return np.clip(x_ND @ self.coef, -LARGEST_LOG_RATE, LARGEST_LOG_RATE)

    def log_density(self, lines: Array, y: Array, /) -> Array:
        """Give the log probability of the count seen, [N, K]."""
        constant = torch.lgamma(torch.from_numpy(y + 1.0)).numpy()
        return y[:, None] * lines - np.exp(lines) - constant[:, None]

    def pull(self, lines: Array, y: Array, shares_NK: Array, /) -> ExpertDerivatives:
        """Give shares times rates and times residuals, and weighted squares of Pearson's kind."""
        rates = np.exp(lines)
        gap = y[:, None] - rates
        return ExpertDerivatives(
            shares_NK * rates, shares_NK * gap, (shares_NK * gap**2 / rates).sum(0)
        )

    def advance(
        self, grams: Array, slopes: Array, squares: Array, push: StepOptions, /
    ) -> PoissonExperts:
        """Make one Newton step per expert; squares are not needed."""
        del squares
        coef, penalty = self.coef.copy(), make_slope_penalty((len(self.coef), 1), push.ridge)
        for k in np.flatnonzero(grams[:, 0, 0] > 0):
            step = newton_step(slopes[:, [k]], grams[k], coef[:, [k]], penalty)
            coef[:, k] += push.pace * step[:, 0]
        return PoissonExperts(coef)

    def penalty(self, push: StepOptions, /) -> float:
        """Give half the ridge times the squared slopes."""
        return 0.5 * push.ridge * float((self.coef[1:] ** 2).sum())

    def pick(self, order: Array, /) -> PoissonExperts:
        """Take experts by index."""
        return PoissonExperts(self.coef[:, order])

    def mapped(self, matrix_DD: Array, /) -> PoissonExperts:
        """Express the coefficients in other covariates."""
        return PoissonExperts(matrix_DD @ self.coef)

    def size(self) -> int:
        """Count the coefficients."""
        return self.coef.size


def check_counts(y: Array) -> None:
    """Refuse responses that are no counts."""
    bad = np.flatnonzero((y < 0) | (y != np.floor(y)))
    if len(bad):
        raise ValueError(
            f"the response {y[bad[0]]} of row {bad[0]} is no count; give whole numbers of at least "
            "0, or choose family='normal'"
        )


def start_counts(x_ND: Array, y: Array, shares_NK: Array) -> PoissonExperts:
    """Fit each expert's share of log(y + 1/2) by least squares: where Newton may begin."""
    grams = weighted_grams(x_ND, shares_NK)
    right = x_ND.T @ (shares_NK * np.log(y + 0.5)[:, None])
    steps = [solve_symmetric(gram, right[:, k]) for k, gram in enumerate(grams)]
    return PoissonExperts(np.stack(steps, 1))


def score_counts(experts: PoissonExperts, x_ND: Array, y: Array) -> Array:
    """Give each expert's score as if the row were its own, [K, N, D]."""
    gap = (y[:, None] - np.exp(experts.lines(x_ND))).T
    return gap[:, :, None] * x_ND


def inform_counts(experts: PoissonExperts, x_ND: Array, y: Array, shares_NK: Array) -> Array:
    """Give the complete-data information of each expert, [K, D, D]."""
    del y
    return weighted_grams(x_ND, shares_NK * np.exp(experts.lines(x_ND)))


def place_count_nodes(experts: PoissonExperts, x_SD: Array) -> Array:
    """Give counts that stand for each expert's distribution, [S, K, nodes], equally weighed."""
    rates = np.exp(experts.lines(x_SD))[:, :, None]
    return find_count_quantiles(rates, NODE_LEVELS)


def find_count_quantiles(rates: Array, levels: Array) -> Array:
    """Give the least counts whose distribution reaches the levels; shapes are broadcast."""
    from scipy.special import pdtr, pdtrik  # scipy comes with the extra of the estimators

    rates, levels = np.broadcast_arrays(rates, levels)
    found = np.ceil(pdtrik(levels, rates))
    below = np.maximum(found - 1, 0)  # rounding may put the inverse one too high
    found = np.where(pdtr(below, rates) >= levels, below, found)
    return np.where(pdtr(0, rates) >= levels, 0.0, found)


@dataclass(frozen=True)
class PoissonKL:
    """KL from local to reduced Poisson, by formula."""

    def between(self, x_SD: Array, local: PoissonExperts, reduced: PoissonExperts, /) -> Array:
        """Give the divergences, [K, S, L]."""
        logs, others = local.lines(x_SD), reduced.lines(x_SD).T[:, :, None]
        rates = np.exp(logs)
        return np.maximum(rates * (logs - others - 1) + np.exp(others), 0.0)

    def update(
        self, x_SD: Array, plan_KSL: Array, local: PoissonExperts, reduced: PoissonExperts, /
    ) -> PoissonExperts:
        """Fit a weighted Poisson regression to the rates carried to each expert."""
        carried = (plan_KSL * np.exp(local.lines(x_SD))).sum(-1).T
        mass, coef = plan_KSL.sum(-1).T, reduced.coef.copy()
        for k in np.flatnonzero(mass.sum(0) > 0):
            coef[:, k] = fit_rates(x_SD, carried[:, k], mass[:, k], coef[:, k])
        return PoissonExperts(coef)


def fit_rates(x_SD: Array, carried_S: Array, mass_S: Array, start_D: Array) -> Array:
    """Maximise ``carried' x b - mass' exp(x b)``, to machine precision where it is reached, [D]."""

    def value(coef: Array) -> float:
        lines = np.clip(x_SD @ coef, -LARGEST_LOG_RATE, LARGEST_LOG_RATE)
        return float(carried_S @ lines - mass_S @ np.exp(lines))

    coef, best = start_D, value(start_D)
    for _ in range(50):
        rates = mass_S * np.exp(np.clip(x_SD @ coef, -LARGEST_LOG_RATE, LARGEST_LOG_RATE))
        gram = weighted_grams(x_SD, rates[:, None])[0]
        step, gained = solve_symmetric(gram, x_SD.T @ (carried_S - rates)), -1.0
        for halving in range(20):
            trial = coef + 0.5**halving * step
            gained = value(trial) - best
            if gained >= 0:
                coef, best = trial, best + gained
                break
        if gained <= 1e-13 * abs(best):
            break
    return coef
