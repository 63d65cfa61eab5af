"""Which parameters a fit was free to choose.

Letters: D columns with the constant, K experts, J = K - 1, P parameters.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moiety.mixtures.em import Prior
from moiety.mixtures.logit import Array
from moiety.mixtures.model import Mixture


def find_free_parameters(mixture: Mixture, prior: Prior) -> Array:
    """Tell which parameters are free, in the order of the observed information, [P].

    Coefficients of columns that gate or experts do not use are not, nor are slopes that a lasso
    made exactly 0.

    Args:
        mixture: fitted.
        prior: with which it was; its columns are those of the mixture.
    """
    gate, coef = mixture.gate, mixture.experts.coef
    columns, size = gate.shape
    own = coef[..., :-1] if coef.ndim == 3 else coef[..., None]
    free_gate = np.zeros((columns, size - 1), bool)
    free_gate[prior.free.find_gate_rows(columns)] = True
    free_own = np.zeros(own.shape, bool)
    free_own[prior.free.find_expert_rows(columns)] = True
    if prior.gate_lasso:
        free_gate[1:] &= (gate[1:] != 0).any(1)[:, None]
    if prior.lasso:
        free_own[1:] &= own[1:] != 0
    each = free_own.transpose(1, 2, 0).reshape(size, -1)
    spreads = (mixture.experts.size() - own.size) // size
    each = np.concatenate([each, np.ones((size, spreads), bool)], 1)
    noise = np.ones(int(mixture.noise is not None), bool)
    return np.concatenate([free_gate.T.ravel(), each.ravel(), noise])


def find_twins(mixture: Mixture, prior: Prior) -> Array:
    """Give for each parameter the first that it is one with, in the same order, [P]."""
    coef, (columns, size) = mixture.experts.coef, mixture.gate.shape
    gate, lines = columns * (size - 1), coef[..., :-1] if coef.ndim == 3 else coef
    width, each = mixture.experts.size() // size, lines.size // size
    places = np.arange(gate + size * width + int(mixture.noise is not None))
    own = places[gate : gate + size * width].reshape(size, width)
    if prior.free.shared is not None:
        shared = np.flatnonzero(np.tile(prior.free.shared, each // columns))
        own[:, shared] = own[0, shared]
    if prior.free.one_spread:
        own[:, each:] = own[0, each:]
    return places


def count_free_parameters(mixture: Mixture, prior: Prior) -> int:
    """Count them; what experts share counts once, and a constant column not at all.

    A column that is constant has coefficients of exactly 0 in the gate and in all experts.
    """
    gate, coef = mixture.gate, mixture.experts.coef
    moved = (gate != 0).any(1) | (coef.reshape(len(coef), -1) != 0).any(1)
    moved[0], free = True, prior.free
    in_gate = moved if free.gate is None else moved & np.array(free.gate)
    in_experts = moved if free.experts is None else moved & np.array(free.experts)
    told = replace(free, gate=tuple(in_gate.tolist()), experts=tuple(in_experts.tolist()))
    counted = find_free_parameters(mixture, replace(prior, free=told))
    return len(np.unique(find_twins(mixture, prior)[counted]))
