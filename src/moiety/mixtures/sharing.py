"""Slopes that all experts have in common.

Letters: D columns with the constant, K experts, P parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moiety.mixtures.logit import Array, make_slope_penalty, solve_symmetric


def make_sharing_basis(columns: int, experts: int, shared: Sequence[int]) -> Array:
    """Give what takes free parameters to the coefficients of all experts, [K * D, P].

    >>> make_sharing_basis(2, 2, [1]).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    place = np.arange(experts * columns).reshape(experts, columns)
    place[:, list(shared)] = place[0, list(shared)]
    return np.equal.outer(place.ravel(), np.unique(place)).astype(float)


def step_together(
    slopes_DK: Array, informations: Array, here_DK: Array, ridge: float, shared: Sequence[int]
) -> Array:
    """Give the Newton step of all experts when some slopes are those of all, [D, K].

    Args:
        slopes_DK: gradient of the log-likelihood.
        informations: minus its Hessian of each expert, [K, D, D].
        here_DK: where the step starts; the shared slopes are equal there.
        ridge: half of it times each squared slope is taken off.
        shared: places of the columns whose slopes are shared.
    """
    columns, experts = slopes_DK.shape
    penalty = make_slope_penalty((columns, experts), ridge)
    basis = make_sharing_basis(columns, experts, shared)
    whole = np.zeros((experts, columns, experts, columns))
    both = np.arange(experts)
    whole[both, :, both] = informations
    whole = whole.reshape(len(basis), -1) + np.diag(penalty.T.ravel())
    pull = basis.T @ (slopes_DK - penalty * here_DK).T.ravel()
    return (basis @ solve_symmetric(basis.T @ whole @ basis, pull)).reshape(experts, columns).T
