"""A mixture of experts with a softmax gate.

Letters: N rows, D columns with the constant, K experts.

f(y | x) = sum_k pi_k(x) phi_k(y | x),   pi(x) = softmax(x' gate),   the last gate column 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np

from moiety.mixtures.experts import Experts
from moiety.mixtures.logit import Array, log_softmax, log_sum_exp
from moiety.mixtures.noise import Noise, admit_noise

E = TypeVar("E", bound=Experts)


@dataclass(frozen=True)
class Mixture(Generic[E]):
    """A gate [D, K] and K experts, and maybe a share of rows that follow none of them."""

    gate: Array
    experts: E
    noise: Noise | None = None

    @property
    def num_experts(self) -> int:
        """Count the experts."""
        return self.gate.shape[1]


def add_constant(x: Array) -> Array:
    """Put the constant before the covariates, [N, d] -> [N, D]."""
    return np.concatenate([np.ones((len(x), 1)), x], 1)


def log_joint(mixture: Mixture, x_ND: Array, y: Array) -> Array:
    """Give log pi_k(x) + log phi_k(y | x), [N, K]; what noise takes is taken off."""
    gate = log_softmax(x_ND @ mixture.gate)
    joint = gate + mixture.experts.log_density(mixture.experts.lines(x_ND), y)
    return joint if mixture.noise is None else joint + np.log1p(-mixture.noise.share)


def log_density(mixture: Mixture, x_ND: Array, y: Array) -> Array:
    """Give log f(y | x), [N]."""
    return _split(mixture, x_ND, y)[1]


def _split(mixture: Mixture, x_ND: Array, y: Array) -> tuple[Array, Array]:
    """Give log joint densities of y and each expert, and the log density of y."""
    whole = replace(mixture, noise=None)
    joint = log_joint(whole, x_ND, y)
    value = log_sum_exp(joint)
    return (joint, value) if mixture.noise is None else admit_noise(joint, value, mixture.noise, y)


def responsibilities(mixture: Mixture, x_ND: Array, y: Array) -> Array:
    """Give the probability of each expert once y is seen, [N, K]; the rest to 1 is noise."""
    joint, value = _split(mixture, x_ND, y)
    return np.exp(joint - value[:, None])


def gate_proba(mixture: Mixture, x_ND: Array) -> Array:
    """Give pi(x), [N, K]."""
    return np.exp(log_softmax(x_ND @ mixture.gate))


def count_mixture_parameters(mixture: Mixture) -> int:
    """Count the free parameters: those of the experts, D (K - 1) of the gate, 1 of noise."""
    noise = int(mixture.noise is not None)
    return mixture.experts.size() + mixture.gate[:, :-1].size + noise


def reorder_experts(mixture: Mixture[E], order: Array) -> Mixture[E]:
    """Permute the experts, and make the new last one the gate's reference."""
    gate = mixture.gate[:, order]
    return replace(mixture, gate=gate - gate[:, -1:], experts=mixture.experts.pick(order))


def find_canonical_order(mixture: Mixture) -> Array:
    """Order the experts by intercept, then by the next coefficients, so that labels are settled."""
    coef = mixture.experts.coef
    keys = coef.reshape(coef.shape[0], mixture.num_experts, -1)[:, :, 0]
    return np.lexsort(keys[::-1])


def sort_experts(mixture: Mixture[E]) -> Mixture[E]:
    """Put the experts in canonical order."""
    return reorder_experts(mixture, find_canonical_order(mixture))


def map_covariates(mixture: Mixture[E], matrix_DD: Array) -> Mixture[E]:
    """Express a mixture in other covariates: gate and experts become ``matrix @ themselves``."""
    experts = mixture.experts.mapped(matrix_DD)
    return replace(mixture, gate=matrix_DD @ mixture.gate, experts=experts)


def centring_matrix(mean: Array, spread: Array) -> Array:
    """Give the matrix that takes coefficients of x to those of (x - mean) / spread, [D, D]."""
    matrix = np.diag(np.concatenate([[1.0], spread]))
    matrix[0, 1:] = mean
    return matrix


def uncentring_matrix(mean: Array, spread: Array) -> Array:
    """Give the inverse of :func:`centring`."""
    matrix = np.diag(np.concatenate([[1.0], 1 / spread]))
    matrix[0, 1:] = -mean / spread
    return matrix
