"""What it costs to carry one Poisson expert to another, by formula.

Letters: D columns with the constant, K experts, S support rows, L local experts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from moiety.mixtures.law import LARGEST_LINE
from moiety.mixtures.linked import LinkedExperts
from moiety.mixtures.logit import Array, solve_symmetric, weighted_grams


@dataclass(frozen=True)
class PoissonKL:
    """KL from local to reduced Poisson, by formula."""

    def between(self, x_SD: Array, local: LinkedExperts, reduced: LinkedExperts, /) -> Array:
        """Give the divergences, [K, S, L]."""
        logs, others = local.lines(x_SD), reduced.lines(x_SD).T[:, :, None]
        rates = np.exp(logs)
        return np.maximum(rates * (logs - others - 1) + np.exp(others), 0.0)

    def update(
        self, x_SD: Array, plan_KSL: Array, local: LinkedExperts, reduced: LinkedExperts, /
    ) -> LinkedExperts:
        """Fit a weighted Poisson regression to the rates carried to each expert."""
        carried = (plan_KSL * np.exp(local.lines(x_SD))).sum(-1).T
        mass, coef = plan_KSL.sum(-1).T, reduced.coef.copy()
        for k in np.flatnonzero(mass.sum(0) > 0):
            coef[:, k] = fit_rates(x_SD, carried[:, k], mass[:, k], coef[:, k])
        return replace(reduced, coef=coef)


def fit_rates(x_SD: Array, carried_S: Array, mass_S: Array, start_D: Array) -> Array:
    """Maximise ``carried' x b - mass' exp(x b)``, to machine precision where it is reached, [D]."""

    def value(coef: Array) -> float:
        lines = np.clip(x_SD @ coef, -LARGEST_LINE, LARGEST_LINE)
        return float(carried_S @ lines - mass_S @ np.exp(lines))

    coef, best = start_D, value(start_D)
    for _ in range(50):
        rates = mass_S * np.exp(np.clip(x_SD @ coef, -LARGEST_LINE, LARGEST_LINE))
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
