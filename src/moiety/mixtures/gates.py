"""Four gates for reduced experts.

Letters: S support rows, D columns with the constant, M mixtures, K experts, J = K - 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moiety.mixtures.experts import Experts
from moiety.mixtures.logit import (
    Array,
    assemble_symmetric,
    curvature,
    fit_logit,
    solve_symmetric,
    weighted_grams,
)
from moiety.mixtures.model import Mixture, gate_proba


def average_gates(mixtures: Sequence[Mixture], weights_M: Array) -> Array:
    """Average the gates of aligned mixtures, [D, K]."""
    return np.einsum("m,mdk->dk", weights_M / weights_M.sum(), [m.gate for m in mixtures])


def project_gate(x_SD: Array, mass_SK: Array, start_DK: Array) -> Array:
    """Fit the mass that each support row sends to each expert, [D, K]; needs no response."""
    rows = mass_SK.sum(1)
    held = rows > 0
    target = mass_SK[held] / rows[held, None]
    ridge = 1e-9 * float(rows.sum())
    return fit_logit(x_SD[held], target, rows[held], start_DK, ridge=ridge)


def fit_posterior_gate(
    x_SD: Array, y_S: Array, mass_SK: Array, start_DK: Array, experts: Experts
) -> Array:
    """Fit the posterior of the responses at the support, as the published code does, [D, K]."""
    rows = mass_SK.sum(1)
    joint = experts.log_density(experts.lines(x_SD), y_S)
    shares = mass_SK / rows[:, None] * np.exp(joint - joint.max(1, keepdims=True))
    return fit_logit(x_SD, shares / shares.sum(1, keepdims=True), rows, start_DK)


def evaluate_gate_information(mixture: Mixture, x_SD: Array, u_S: Array) -> Array:
    """Give X' diag(u) (diag(pi) - pi pi') X of the free gate columns, [J * D, J * D]."""
    free = mixture.num_experts - 1
    probs = gate_proba(mixture, x_SD)[:, :free]
    return assemble_symmetric(weighted_grams(x_SD, u_S[:, None] * curvature(probs)), free)


def expand_information(information: Array, size: int) -> Array:
    """Add the reference column: the columns of all K experts sum to nothing, [K * D, K * D]."""
    free = size - 1
    columns = len(information) // max(free, 1)
    spread = np.concatenate([np.eye(free), -np.ones((1, free))])
    lift = np.kron(spread, np.eye(columns))
    return lift @ information @ lift.T


def reorder_information(information: Array, order: Array) -> Array:
    """Express a gate's information for experts in another order, the last one the reference."""
    size = len(order)
    columns = len(information) // max(size - 1, 1)
    whole = expand_information(information, size).reshape(size, columns, size, columns)
    taken = whole[order][:, :, order][: size - 1, :, : size - 1]
    return taken.reshape((size - 1) * columns, -1)


def weigh_gates(
    mixtures: Sequence[Mixture], informations: Sequence[Array], weights_M: Array
) -> Array:
    """Average the gates of aligned mixtures, each weighed by how well it knows each direction.

    What no machine knows stays at the plain average.
    """
    centre = average_gates(mixtures, weights_M)
    free = centre.shape[1] - 1
    if not free:
        return centre
    pulls = [
        information @ (mixture.gate - centre)[:, :-1].T.ravel()
        for mixture, information in zip(mixtures, informations, strict=True)
    ]
    step = solve_symmetric(np.sum(informations, 0), np.sum(pulls, 0))
    moved = centre.copy()
    moved[:, :-1] += step.reshape(free, -1).T
    return moved
