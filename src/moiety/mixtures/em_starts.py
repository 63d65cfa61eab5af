"""Where EM begins.

Letters: N rows, D columns with the constant, K experts, F features.

No start draws a row by its place: directions are drawn in the space of the features, so that a row
of weight two and the same row twice begin alike, in any order.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moiety.mixtures.categorical import CategoricalExperts
from moiety.mixtures.experts import GaussianExperts, StepOptions
from moiety.mixtures.freedom import advance_free
from moiety.mixtures.linked import LinkedExperts, start_linked
from moiety.mixtures.logit import Array, weighted_grams
from moiety.mixtures.model import Mixture


def cut_slabs(features_NF: Array, weights_N: Array, parts: int, direction_F: Array) -> Array:
    """Cut the rows into parts of equal weight along a direction; labels 0..parts-1, [N].

    Rows that lie at one place, but for rounding, are never parted.
    """
    score = np.round(features_NF @ direction_F, 9)
    place = np.unique(score, return_inverse=True)[1]
    mass = np.bincount(place, weights_N)
    below = np.cumsum(mass) - 0.5 * mass
    return np.minimum(parts * below / mass.sum(), parts - 1).astype(np.intp)[place]


def run_lloyd(features_NF: Array, weights_N: Array, labels: Array, parts: int, steps: int) -> Array:
    """Improve labels by weighted k-means; an empty part stays empty."""
    for _ in range(steps):
        shares = (labels[:, None] == np.arange(parts)) * weights_N[:, None]
        mass = shares.sum(0)
        centres = shares.T @ features_NF / np.maximum(mass, 1e-300)[:, None]
        far = (centres**2).sum(1) - 2 * features_NF @ centres.T
        moved = np.where(mass > 0, far, np.inf).argmin(1)
        if (moved == labels).all():
            break
        labels = moved
    return labels


def label_by_kmeans(
    features_NF: Array, weights_N: Array, parts: int, rng: np.random.Generator
) -> Array:
    """Cut along a random direction, then by k-means."""
    labels = cut_slabs(features_NF, weights_N, parts, rng.standard_normal(features_NF.shape[1]))
    return run_lloyd(features_NF, weights_N, labels, parts, 20)


def label_by_slabs(
    features_NF: Array, weights_N: Array, parts: int, rng: np.random.Generator
) -> Array:
    """Cut along a random direction only."""
    return cut_slabs(features_NF, weights_N, parts, rng.standard_normal(features_NF.shape[1]))


def join_start_features(x_ND: Array, y: Array, classes: int) -> Array:
    """Join the covariates and the response: standardised, or as centred indicators of classes."""
    if not classes:
        return np.column_stack([x_ND[:, 1:], y])
    hits = (y[:, None] == np.arange(classes)).astype(float)
    return np.concatenate([x_ND[:, 1:], hits - hits.mean(0)], 1)


def standardise_linked(linked: Array, weights_N: Array) -> Array:
    """Standardise responses on the scale of the line, to be features."""
    gap = linked - np.average(linked, weights=weights_N)
    return gap / (np.sqrt(np.average(gap**2, weights=weights_N)) or 1.0)


def make_labelled_start(
    zero: GaussianExperts | CategoricalExperts | LinkedExperts,
    rows: tuple[Array, Array, Array],
    labels: Array,
    used: Array,
) -> Mixture:
    """Fit each expert to its label's rows, from experts that know nothing; the gate is zero.

    Args:
        zero: experts that know nothing.
        rows: covariates with the constant, responses, weights.
        labels: one a row.
        used: the columns that experts use.
    """
    (x_ND, y, weights_N), (columns, parts) = rows, zero.coef.shape[:2]
    shares = (labels[:, None] == np.arange(parts)) * weights_N[:, None]
    if isinstance(zero, LinkedExperts):
        linked = zero.law.link(y) - x_ND @ zero.coef[:, 0]
        started = start_linked(zero, x_ND[:, used], linked, shares, used)
        return Mixture(np.zeros((columns, parts)), started)
    found = zero.prepare_step(zero.lines(x_ND), y, shares)
    grams = weighted_grams(x_ND, found.curves)
    ridge = 0.0 if isinstance(zero, GaussianExperts) else 1e-3 * float(weights_N.sum())
    slopes, options = x_ND.T @ found.slopes, StepOptions(ridge, 0.0)
    experts = advance_free(zero, grams, slopes, found.squares, options, used)
    return Mixture(np.zeros((columns, parts)), raise_variances(experts))


def raise_variances(
    experts: GaussianExperts | CategoricalExperts | LinkedExperts,
) -> GaussianExperts | CategoricalExperts | LinkedExperts:
    """Raise variances far below the others', which would trap EM at a few rows."""
    if isinstance(experts, LinkedExperts):
        return replace(experts, spreads=experts.law.soften(experts.spreads))
    if not isinstance(experts, GaussianExperts):
        return experts
    least = 0.01 * experts.variances.mean()
    return GaussianExperts(experts.coef, np.maximum(experts.variances, max(least, 1e-6)))
