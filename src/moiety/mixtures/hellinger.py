"""How far two mixtures are apart as densities of the response.

Letters: S support rows, D columns with the constant, K experts, P points of y per row, G classes.

The squared Hellinger distance, the integral of (sqrt f - sqrt g)^2 over y, is bounded, so that no
fit however bad makes it overflow, and for close densities it is half their KL divergence. So for a
fit by maximum likelihood to n rows, 2 n times its distance from the truth is near half the number
of parameters: what is far above that did not come from such rows.
"""

from __future__ import annotations

import functools

import numpy as np

from moiety.mixtures.categorical import CategoricalExperts
from moiety.mixtures.experts import GaussianExperts
from moiety.mixtures.law import NODE_LEVELS
from moiety.mixtures.linked import LinkedExperts
from moiety.mixtures.logit import Array, log_softmax, log_sum_exp
from moiety.mixtures.model import Mixture, gate_proba, log_density

LARGEST_LOG_RATIO = 700.0  # a log ratio beyond which its exponential overflows


def squared_hellinger(x_SD: Array, u_S: Array, first: Mixture, second: Mixture) -> float:
    """Give the mean over support rows of the squared Hellinger distance, between 0 and 2.

    For Gaussian experts by quadrature: points and weights of both mixtures' experts, where the
    integrand relative to the mean density, 2 - 2 / cosh(log ratio / 2), lies between 0 and 2.
    """
    if isinstance(first.experts, CategoricalExperts):
        roots = np.sqrt(class_proba(first, x_SD)) - np.sqrt(class_proba(second, x_SD))
        return float(u_S @ (roots**2).sum(1))
    place = place_quadrature_points
    if isinstance(first.experts, LinkedExperts):
        place = place_law_points
    pairs = [place(mixture, x_SD) for mixture in (first, second)]
    y_SP = np.concatenate([y for y, _ in pairs], 1)
    share_SP = 0.5 * np.concatenate([share for _, share in pairs], 1)
    ratio = log_densities(first, x_SD, y_SP) - log_densities(second, x_SD, y_SP)
    with np.errstate(invalid="ignore"):
        apart = 2 - 2 / np.cosh(0.5 * np.clip(ratio, -LARGEST_LOG_RATIO, LARGEST_LOG_RATIO))
    return float(u_S @ (share_SP * apart).sum(1))


def class_proba(mixture: Mixture[CategoricalExperts], x_SD: Array) -> Array:
    """Give the class probabilities, [S, G]."""
    probs = np.exp(mixture.experts.lines(x_SD))
    return np.einsum("sk,skg->sg", gate_proba(mixture, x_SD), probs)


@functools.cache
def find_nodes() -> tuple[Array, Array]:
    """Find five nodes and their weights for a mean over a normal distribution."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)  # numpy imports this when asked for it
    return nodes, weights / weights.sum()


def place_quadrature_points(mixture: Mixture[GaussianExperts], x_SD: Array) -> tuple[Array, Array]:
    """Give the points of Gauss and Hermite of all experts and their shares, both [S, P]."""
    nodes, weights = find_nodes()
    spread = np.sqrt(mixture.experts.variances)[:, None] * nodes
    y_SKP = mixture.experts.lines(x_SD)[:, :, None] + spread
    share_SKP = gate_proba(mixture, x_SD)[:, :, None] * weights
    return y_SKP.reshape(len(x_SD), -1), share_SKP.reshape(len(x_SD), -1)


def place_law_points(mixture: Mixture[LinkedExperts], x_SD: Array) -> tuple[Array, Array]:
    """Give quantiles of all experts and their shares, both [S, P]."""
    experts = mixture.experts
    lines, spreads = experts.lines(x_SD)[:, :, None], experts.spreads[:, None, :, None]
    y_SKP = experts.law.quantile(lines, NODE_LEVELS, spreads)
    share_SKP = np.repeat(gate_proba(mixture, x_SD)[:, :, None], y_SKP.shape[2], 2)
    return y_SKP.reshape(len(x_SD), -1), share_SKP.reshape(len(x_SD), -1) / y_SKP.shape[2]


def log_densities(mixture: Mixture, x_SD: Array, y_SP: Array) -> Array:
    """Give log f(y | x) at several y per row, [S, P]."""
    if isinstance(mixture.experts, LinkedExperts):
        return np.stack([log_density(mixture, x_SD, y_S) for y_S in y_SP.T], 1)
    variances = mixture.experts.variances
    gate = log_softmax(x_SD @ mixture.gate) - 0.5 * np.log(2 * np.pi * variances)
    gap = y_SP[:, :, None] - mixture.experts.lines(x_SD)[:, None, :]
    return log_sum_exp(gate[:, None, :] - 0.5 * gap**2 / variances)
