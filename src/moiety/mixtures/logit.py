"""Multinomial logits by Newton steps.

Letters: N rows, D columns with the constant, C classes.

A logit is kept as a matrix [D, C] whose last column is 0, the reference class; J = C - 1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def log_sum_exp(scores: Array) -> Array:
    """Give log(sum(exp(scores))) over the last dim, without overflow.

    >>> round(float(log_sum_exp(np.array([1000.0, 1000.0]))) - 1000.0, 6)
    0.693147
    """
    columns = np.moveaxis(scores, -1, 0)
    top = columns[0].copy()
    for column in columns[1:]:  # a few long columns: far faster than many short reductions
        top = np.maximum(top, column)
    total = np.exp(columns[0] - top)
    for column in columns[1:]:
        total = total + np.exp(column - top)
    return top + np.log(total)


def split_softmax(scores_NK: Array) -> tuple[Array, Array]:
    """Give log(sum(exp(scores))) of rows, [N], and their softmax, [N, K], by one exponential each.

    >>> total, probs = split_softmax(np.array([[1000.0, 1000.0]]))
    >>> round(float(total[0]) - 1000.0, 6), probs.tolist()
    (0.693147, [[0.5, 0.5]])
    """
    top = scores_NK[:, 0]
    for column in scores_NK.T[1:]:  # a few long columns: far faster than many short reductions
        top = np.maximum(top, column)
    probs = np.exp(scores_NK - top[:, None])
    mass = probs[:, 0].copy()
    for column in probs.T[1:]:
        mass += column
    probs /= mass[:, None]
    return top + np.log(mass), probs


def log_softmax(scores: Array) -> Array:
    """Give the logarithm of the softmax over the last dim."""
    return scores - log_sum_exp(scores)[..., None]


@cache
def list_pairs(size: int) -> tuple[Array, Array]:
    """Give the pairs j <= k; an EM step asks for them four times, and finding them is slow."""
    pairs = np.triu_indices(size)
    for places in pairs:
        places.flags.writeable = False
    return pairs


def curvature(probs: Array) -> Array:
    """Give p_j (1[j=k] - p_k) for the pairs j <= k of the free classes, [..., pairs]."""
    first, second = list_pairs(probs.shape[-1])
    product = -probs[..., first] * probs[..., second]
    product[..., first == second] += probs
    return product


def weighted_grams(x_ND: Array, weights_NW: Array) -> Array:
    """Give X' diag(w) X for every column of weights, [W, D, D], in one matrix product."""
    rows, columns = x_ND.shape
    spread = (weights_NW[:, :, None] * x_ND[:, None, :]).reshape(rows, -1)
    return (x_ND.T @ spread).reshape(columns, -1, columns).transpose(1, 0, 2)


def assemble_symmetric(blocks: Array, size: int) -> Array:
    """Lay the blocks of pairs j <= k out as one symmetric matrix, [size * D, size * D]."""
    first, second = list_pairs(size)
    columns = blocks.shape[-1]
    whole = np.zeros((size, columns, size, columns))
    whole[first, :, second, :] = blocks
    whole[second, :, first, :] = blocks.transpose(0, 2, 1)
    return whole.reshape(size * columns, size * columns)


def solve_symmetric(matrix: Array, right: Array) -> Array:
    """Solve a symmetric system; where it is all but singular, give the solution of least norm."""
    try:
        pivots = np.diag(np.linalg.cholesky(matrix))
    except np.linalg.LinAlgError:
        pivots = np.zeros(1)
    if pivots.min(initial=1.0) <= 1e-6 * pivots.max(initial=0.0):
        return np.linalg.pinv(matrix, rcond=1e-11, hermitian=True) @ right
    return np.linalg.solve(matrix, right)


def solve_stack(matrices: Array, rights: Array) -> Array:
    """Solve symmetric systems side by side, [K, D, D] and [K, D], as ``solve_symmetric`` each."""
    try:
        pivots = np.diagonal(np.linalg.cholesky(matrices), axis1=1, axis2=2)
    except np.linalg.LinAlgError:
        pivots = np.zeros((len(matrices), 1))
    if (pivots.min(1, initial=1.0) <= 1e-6 * pivots.max(1, initial=0.0)).any():
        return np.stack([solve_symmetric(*pair) for pair in zip(matrices, rights, strict=True)])
    return np.linalg.solve(matrices, rights[..., None])[..., 0]


def newton_step(slope_DJ: Array, information: Array, weights_DJ: Array, ridge_DJ: Array) -> Array:
    """Give the Newton step of a penalised logit, [D, J].

    Args:
        slope_DJ: gradient of the log-likelihood.
        information: minus its Hessian, [J * D, J * D], class by class.
        weights_DJ: where the step starts.
        ridge_DJ: penalty on each weight, half of it times the square.
    """
    gradient = (slope_DJ - ridge_DJ * weights_DJ).T.ravel()
    step = solve_symmetric(information + np.diag(ridge_DJ.T.ravel()), gradient)
    return step.reshape(slope_DJ.shape[::-1]).T


def make_slope_penalty(shape: tuple[int, int], ridge: float) -> Array:
    """Give a penalty on every weight but the intercepts, [D, J]."""
    penalty = np.full(shape, ridge)
    penalty[0] = 0.0
    return penalty


def fit_logit(
    x_ND: Array,
    target_NC: Array,
    weights_N: Array,
    start_DC: Array,
    *,
    ridge: float = 0.0,
    max_iter: int = 100,
) -> Array:
    """Fit soft targets by penalised maximum likelihood, to machine precision where it is reached.

    Args:
        x_ND: covariates, the first column 1.
        target_NC: class probabilities, each row with sum 1.
        weights_N: non-negative row weights.
        start_DC: where Newton starts; its last column is 0.
        ridge: penalty on the slopes against separation.
        max_iter: the most Newton steps; each is halved while the likelihood falls.

    Returns:
        The weights, [D, C], the last column 0.
    """
    penalty = make_slope_penalty((x_ND.shape[1], target_NC.shape[1] - 1), ridge)

    def value(gate: Array) -> float:
        fitted = weights_N @ (target_NC * log_softmax(x_ND @ gate)).sum(1)
        return float(fitted - 0.5 * (penalty * gate[:, :-1] ** 2).sum())

    gate, best = start_DC, value(start_DC)
    for _ in range(max_iter):
        probs = np.exp(log_softmax(x_ND @ gate))[:, :-1]
        slope = x_ND.T @ (weights_N[:, None] * (target_NC[:, :-1] - probs))
        blocks = weighted_grams(x_ND, weights_N[:, None] * curvature(probs))
        step = newton_step(slope, assemble_symmetric(blocks, probs.shape[1]), gate[:, :-1], penalty)
        gate, gained = _search_line(value, gate, step, best)
        best += gained
        if gained <= 1e-14 * abs(best):
            break
    return gate


def _search_line(
    value: Callable[[Array], float], gate: Array, step: Array, best: float
) -> tuple[Array, float]:
    """Take the step, or a half, a quarter, ... of it: the first that does not lose."""
    for halving in range(30):
        trial = gate.copy()
        trial[:, :-1] += step * 0.5**halving
        gained = value(trial) - best
        if gained >= 0:
            return trial, gained
    return gate, 0.0


def pack_symmetric(matrix: Array) -> Array:
    """Give the upper triangle of a symmetric matrix, row by row, [n (n + 1) / 2]."""
    return matrix[np.triu_indices(len(matrix))]


def unpack_symmetric(values: Array) -> Array:
    """Give the symmetric matrix of an upper triangle.

    >>> unpack_symmetric(np.array([1.0, 2.0, 3.0])).tolist()
    [[1.0, 2.0], [2.0, 3.0]]
    """
    size = (int(np.sqrt(8 * len(values) + 1)) - 1) // 2
    matrix = np.zeros((size, size))
    matrix[np.triu_indices(size)] = values
    return matrix + np.triu(matrix, 1).T
