"""Standard errors from the observed information.

Letters: N rows, D columns with the constant, K experts, J = K - 1, P parameters.

Louis' identity: the observed information is the complete-data information less what the unknown
labels take away, E[s s'] - E[s] E[s'] of the complete-data score s given the data. Parameters in
order: gate columns, then expert by expert its coefficients and the logarithms of its variance or
spreads, and last the log-odds of noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from moiety.mixtures.categorical import CategoricalExperts
from moiety.mixtures.em import Block, cut_block
from moiety.mixtures.experts import GaussianExperts
from moiety.mixtures.linked import LinkedExperts, inform_linked, score_linked
from moiety.mixtures.logit import Array, assemble_symmetric, curvature, log_softmax, weighted_grams
from moiety.mixtures.model import Mixture, responsibilities


def gaussian_scores(experts: GaussianExperts, x_ND: Array, y: Array) -> Array:
    """Give each expert's score as if the row were its own, [K, N, D + 1]."""
    residual = (y[:, None] - experts.lines(x_ND)).T
    ratio = residual / experts.variances[:, None]
    spread = 0.5 * (residual * ratio - 1)
    return np.concatenate([ratio[:, :, None] * x_ND, spread[:, :, None]], 2)


def categorical_scores(experts: CategoricalExperts, x_ND: Array, y: Array) -> Array:
    """Give each expert's score as if the row were its own, [K, N, (G - 1) D]."""
    probs = np.exp(experts.lines(x_ND))[..., :-1]
    hit = y.astype(np.intp)[:, None] == np.arange(probs.shape[-1])
    gap = (hit[:, None, :] - probs).transpose(1, 0, 2)
    return (gap[..., None] * x_ND[:, None, :]).reshape(*gap.shape[:2], -1)


def gaussian_information(
    experts: GaussianExperts, x_ND: Array, y: Array, shares_NK: Array
) -> Array:
    """Give the complete-data information of each expert, [K, D + 1, D + 1]."""
    residual = y[:, None] - experts.lines(x_ND)
    columns = x_ND.shape[1]
    whole = np.zeros((shares_NK.shape[1], columns + 1, columns + 1))
    scaled = shares_NK / experts.variances
    whole[:, :-1, :-1] = weighted_grams(x_ND, scaled)
    whole[:, :-1, -1] = whole[:, -1, :-1] = (x_ND.T @ (scaled * residual)).T
    whole[:, -1, -1] = 0.5 * (scaled * residual**2).sum(0)
    return whole


def categorical_information(
    experts: CategoricalExperts, x_ND: Array, y: Array, shares_NK: Array
) -> Array:
    """Give the complete-data information of each expert, [K, (G - 1) D, (G - 1) D]."""
    found = experts.prepare_step(experts.lines(x_ND), y, shares_NK)
    size, free = experts.coef.shape[1], experts.coef.shape[2] - 1
    blocks = weighted_grams(x_ND, found.curves).reshape(size, -1, *[x_ND.shape[1]] * 2)
    return np.stack([assemble_symmetric(block, free) for block in blocks])


SCORES: dict[type, tuple[Callable[..., Array], Callable[..., Array]]] = {
    GaussianExperts: (gaussian_scores, gaussian_information),
    CategoricalExperts: (categorical_scores, categorical_information),
    LinkedExperts: (score_linked, inform_linked),
}


def block_information(mixture: Mixture, x_ND: Array, y: Array, weights_N: Array) -> Array:
    """Give the observed information in a block of rows, [P, P]."""
    experts = mixture.experts
    own, inside = SCORES[type(experts)]
    post = responsibilities(mixture, x_ND, y)
    gate = np.exp(log_softmax(x_ND @ mixture.gate))[:, :-1]
    shares = weights_N[:, None] * post
    score = join_scores(gate, x_ND, own(experts, x_ND, y))
    whole = inside(experts, x_ND, y, shares)
    told = weights_N if mixture.noise is None else shares.sum(1)
    info = _lay_out(weighted_grams(x_ND, told[:, None] * curvature(gate)), whole)
    mean = np.einsum("nk,knp->np", post, score)
    if mixture.noise is not None:
        share, silent = mixture.noise.share, 1 - post.sum(1)
        score, mean = score_noise(share, post, score, mean)
        left = share * (1 - share) * weights_N.sum() - (1 - share) ** 2 * (weights_N @ silent)
        info = np.pad(info, (0, 1))
        info[-1, -1] = left
    for k in range(mixture.num_experts):
        info -= score[k].T @ (shares[:, k, None] * score[k])
    return info + mean.T @ (weights_N[:, None] * mean)


def block_score_products(mixture: Mixture, x_ND: Array, y: Array, weights_N: Array) -> Array:
    """Give the sum over a block of the products of each row's score with itself, [P, P].

    A row's score is the mean of its complete-data scores over what its label may be.
    """
    post = responsibilities(mixture, x_ND, y)
    gate = np.exp(log_softmax(x_ND @ mixture.gate))[:, :-1]
    own = SCORES[type(mixture.experts)][0](mixture.experts, x_ND, y)
    score = join_scores(gate, x_ND, own)
    mean = np.einsum("nk,knp->np", post, score)
    if mixture.noise is not None:
        mean = score_noise(mixture.noise.share, post, score, mean)[1]
    return mean.T @ (weights_N[:, None] * mean)


def score_noise(share: float, post_NK: Array, score: Array, mean: Array) -> tuple[Array, Array]:
    """Add the log-odds of noise to the scores of labels, [K, N, P + 1], and to their means.

    A row that is noise says nothing of the other parameters.
    """
    score = np.concatenate([score, np.full((*score.shape[:2], 1), -share)], 2)
    silent = 1 - post_NK.sum(1, keepdims=True)
    return score, np.concatenate([mean, silent * (1 - share) - (1 - silent) * share], 1)


def join_scores(gate_NJ: Array, x_ND: Array, own_KNE: Array) -> Array:
    """Put gate and expert scores in one vector per row and label, [K, N, P]."""
    size, rows, width = own_KNE.shape
    free, columns = size - 1, x_ND.shape[1]
    score = np.zeros((size, rows, free * columns + size * width))
    for k in range(size):
        hit = (np.arange(free) == k) - gate_NJ
        score[k, :, : free * columns] = (hit[:, :, None] * x_ND[:, None, :]).reshape(rows, -1)
        at = free * columns + k * width
        score[k, :, at : at + width] = own_KNE[k]
    return score


def _lay_out(gate_blocks: Array, experts: Array) -> Array:
    size, width = experts.shape[:2]
    free = size - 1
    gate = assemble_symmetric(gate_blocks, free) if free else np.zeros((0, 0))
    whole = np.zeros((len(gate) + size * width,) * 2)
    whole[: len(gate), : len(gate)] = gate
    for k in range(size):
        at = len(gate) + k * width
        whole[at : at + width, at : at + width] = experts[k]
    return whole


def observed_information(mixture: Mixture, blocks: Iterable[Block]) -> Array:
    """Give minus the Hessian of the log-likelihood at a mixture, [P, P]."""
    return np.sum(
        [block_information(mixture, *part) for block in blocks for part in cut_block(block)],
        0,
    )


def sum_score_products(mixture: Mixture, blocks: Iterable[Block]) -> Array:
    """Give the outer products of the rows' scores, summed: the filling of a sandwich, [P, P]."""
    parts = (part for block in blocks for part in cut_block(block))
    return np.sum([block_score_products(mixture, *part) for part in parts], 0)
