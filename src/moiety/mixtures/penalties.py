"""Newton steps under penalties that make coefficients exactly 0.

Letters: D columns with the constant, J free classes, K = J + 1, B blocks of W coefficients.
"""

from __future__ import annotations

import numpy as np

from moiety.mixtures.logit import Array, newton_step

MOST_SWEEPS, SWEEP_TOL = 500, 1e-10


def step_with_lasso(
    slope_DJ: Array, information: Array, weights_DJ: Array, ridge_DJ: Array, lasso: float
) -> Array:
    """Give the Newton step of a logit or a regression under ridge and lasso, [D, J].

    The intercepts, the first row, are free of the lasso.

    Args:
        slope_DJ: gradient of the log-likelihood.
        information: minus its Hessian, [J * D, J * D], class by class.
        weights_DJ: where the step starts.
        ridge_DJ: penalty on each weight, half of it times the square.
        lasso: penalty on the absolute value of each slope.
    """
    if not lasso:
        return newton_step(slope_DJ, information, weights_DJ, ridge_DJ)
    columns, free = slope_DJ.shape
    whole = information + np.diag(ridge_DJ.T.ravel())
    pull = (slope_DJ - ridge_DJ * weights_DJ).T.reshape(-1, 1)
    limits = np.tile(np.append(0.0, np.full(columns - 1, lasso)), free)
    size = len(whole)
    begin = weights_DJ.T.reshape(-1, 1)
    moved = descend_blocks(whole.reshape(size, 1, size, 1), pull, begin, limits)
    return (moved - begin).reshape(free, columns).T


def step_with_group_lasso(
    slope_DJ: Array, information: Array, weights_DJ: Array, ridge_DJ: Array, lasso: float
) -> Array:
    """Give the Newton step of a gate that drops a covariate from all its columns at once, [D, J].

    What is penalised is, per covariate, the norm of its K coefficients around their mean, so that
    it does not matter which expert is the reference. For the arguments see step_with_lasso.
    """
    if not lasso:
        return newton_step(slope_DJ, information, weights_DJ, ridge_DJ)
    columns, free = slope_DJ.shape
    whole = (information + np.diag(ridge_DJ.T.ravel())).reshape(free, columns, free, columns)
    back = np.linalg.inv(find_group_root(free).T)
    even = np.einsum("ji,jdke,kl->diel", back, whole, back, optimize=True)
    pull = (slope_DJ - ridge_DJ * weights_DJ) @ back
    begin = weights_DJ @ find_group_root(free)
    limits = np.append(0.0, np.full(columns - 1, lasso))
    moved = descend_blocks(even, pull, begin, limits)
    return (moved - begin) @ back.T


def find_group_root(free: int) -> Array:
    """Give the root L of I - 11'/K: |L' w| is the norm of (w, 0) around its mean, [J, J]."""
    return np.linalg.cholesky(np.eye(free) - 1 / (free + 1))


def measure_groups(gate_DK: Array) -> float:
    """Give the sum over covariates of the norms of their coefficients around their means."""
    slopes = gate_DK[1:]
    return float(np.sqrt(((slopes - slopes.mean(1, keepdims=True)) ** 2).sum(1)).sum())


def descend_blocks(matrix: Array, pull: Array, begin: Array, limits_B: Array) -> Array:
    """Minimise ``d' matrix d / 2 - pull' d + sum_b limits_b |u_b|`` over u = begin + d, [B, W].

    Block after block; a block under a limit makes the exact step where it is one coefficient, and
    else that of a bound of its curvature.

    Args:
        matrix: positive, [B, W, B, W].
        pull: [B, W].
        begin: where d is 0, [B, W].
        limits_B: 0 where a block is free.
    """
    here, left = begin.copy(), pull.copy()
    blocks = np.arange(len(pull))
    own = matrix[blocks, :, blocks]
    tops = np.linalg.eigvalsh(own)[:, -1]
    for _ in range(MOST_SWEEPS):
        moved = 0.0
        for b in np.flatnonzero(tops > 0):
            if limits_B[b]:
                goal = shorten(here[b] + left[b] / tops[b], limits_B[b] / tops[b])
            else:
                goal = here[b] + np.linalg.lstsq(own[b], left[b], rcond=None)[0]
            step = goal - here[b]
            if step.any():
                here[b] = goal
                left -= matrix[:, :, b] @ step
                moved = max(moved, float(np.abs(step).max()))
        if moved <= SWEEP_TOL * (1 + np.abs(here).max()):
            break
    return here


def shorten(values: Array, by: float) -> Array:
    """Make a vector shorter, or 0.

    >>> shorten(np.array([3.0, 4.0]), 1.0).tolist(), shorten(np.array([0.5]), 1.0).tolist()
    ([2.4000000000000004, 3.2], [0.0])
    """
    norm = float(np.sqrt(values @ values))
    return values * (1 - by / norm) if norm > by else np.zeros_like(values)
