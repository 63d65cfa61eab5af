"""Standardised covariates and response.

Letters: N rows, d covariates, D = d + 1 columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from moiety.mixtures.experts import Experts, GaussianExperts
from moiety.mixtures.linked import LinkedExperts
from moiety.mixtures.logit import Array
from moiety.mixtures.model import (
    Mixture,
    add_constant,
    centring_matrix,
    map_covariates,
    uncentring_matrix,
)

NEGLIGIBLE_SPREAD = (
    1e-12  # the spread of a constant column, relative to its value, that is rounding
)


@dataclass(frozen=True)
class Moments:
    """Weighted row count, means [d + 1] and centred sums of squares [d + 1], the response last."""

    rows: float
    mean: Array
    square: Array


def compute_moments(x: Array, y: Array, weights: Array) -> Moments:
    """Take the moments of a block of rows."""
    rows = weights.sum()
    values = np.column_stack([x, y])
    mean = weights @ values / rows
    return Moments(float(rows), mean, weights @ (values - mean) ** 2)


def pool_moments(first: Moments, second: Moments) -> Moments:
    """Pool the moments of two blocks, without cancellation."""
    rows = first.rows + second.rows
    gap = second.mean - first.mean
    mean = first.mean + gap * (second.rows / rows)
    square = first.square + second.square + gap**2 * (first.rows * second.rows / rows)
    return Moments(rows, mean, square)


@dataclass(frozen=True)
class StandardScale:
    """Means and spreads; a constant covariate is not ``kept`` and gets the coefficient 0."""

    mean: Array
    spread: Array
    kept: Array
    shift: float
    factor: float

    @property
    def columns(self) -> int:
        """Count the columns in use, the constant included."""
        return int(self.kept.sum()) + 1

    def measure_covariates(self) -> tuple[Array, Array]:
        """Give means and spreads of all covariates, [d]; of a constant one, NaN and 0."""
        mean, spread = np.full(len(self.kept), np.nan), np.zeros(len(self.kept))
        mean[self.kept], spread[self.kept] = self.mean, self.spread
        return mean, spread


def find_varying(mean: Array, spread: Array) -> Array:
    """Tell which columns vary by more than the rounding of their values, [d]."""
    return spread > NEGLIGIBLE_SPREAD * np.maximum(np.abs(mean), 1e-300)


def make_standard_scale(found: Moments, *, classes: int = 0) -> StandardScale:
    """Make a scale from moments; class indices are left as they are."""
    spread = np.sqrt(found.square / found.rows)
    if not np.isfinite(spread).all():
        raise ValueError("squares of covariates or responses overflow; choose other units")
    kept = find_varying(found.mean[:-1], spread[:-1])
    shift, factor = (0.0, 1.0) if classes else (float(found.mean[-1]), float(spread[-1]) or 1.0)
    return StandardScale(found.mean[:-1][kept], spread[:-1][kept], kept, shift, factor)


def standardise_pair(scale: StandardScale, x: Array, y: Array) -> tuple[Array, Array]:
    """Standardise rows, and put the constant before them."""
    x_ND = add_constant((x[:, scale.kept] - scale.mean) / scale.spread)
    return x_ND, (y - scale.shift) / scale.factor


def rescale_response(mixture: Mixture, shift: float, factor: float) -> Mixture:
    """Turn a mixture of y into that of ``shift + factor * y``; classes and counts stay."""
    experts = mixture.experts
    if not goes_with_scale(experts):
        return mixture
    if mixture.noise is not None:
        mixture = replace(mixture, noise=mixture.noise.rescale(shift, factor))
    coef = experts.coef * factor
    coef[0] += shift
    if isinstance(experts, GaussianExperts):
        return replace(mixture, experts=GaussianExperts(coef, experts.variances * factor**2))
    spreads = experts.spreads.copy()
    spreads[0] *= factor**2
    return replace(mixture, experts=replace(experts, coef=coef, spreads=spreads))


def goes_with_scale(experts: Experts) -> bool:
    """Tell whether experts are of numbers that may be shifted and scaled."""
    if isinstance(experts, LinkedExperts):
        return experts.law.moves
    return isinstance(experts, GaussianExperts)


def restore_units(mixture: Mixture, scale: StandardScale) -> Mixture:
    """Express a mixture of standardised rows in the rows' own units."""
    plain = rescale_response(mixture, scale.shift, scale.factor)
    plain = map_covariates(plain, uncentring_matrix(scale.mean, scale.spread))
    columns = np.concatenate([[True], scale.kept])
    return map_covariates(plain, np.eye(len(columns))[:, columns])


def standardise_mixture(mixture: Mixture, scale: StandardScale) -> Mixture:
    """Express a mixture in standardised units: the inverse of :func:`unscaled`."""
    columns = np.concatenate([[True], scale.kept])
    plain = map_covariates(mixture, np.eye(len(columns))[columns])
    plain = map_covariates(plain, centring_matrix(scale.mean, scale.spread))
    return rescale_response(plain, -scale.shift / scale.factor, 1 / scale.factor)


def log_jacobian(scale: StandardScale) -> float:
    """Give what the log density of a row gains when y is standardised."""
    return float(np.log(scale.factor))
