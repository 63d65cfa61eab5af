"""Standard errors, computed in standardised units so that the rows' units do not matter.

Letters: N rows, D columns with the constant, Q of them that vary, K experts, P parameters.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import block_diag

from moiety.mixtures.categorical import CategoricalExperts
from moiety.mixtures.counting import find_free_parameters, find_twins
from moiety.mixtures.em import DEFAULT_PRIOR, Prior
from moiety.mixtures.experts import Experts, GaussianExperts
from moiety.mixtures.fit import RowArrays
from moiety.mixtures.information import observed_information, sum_score_products
from moiety.mixtures.linked import LinkedExperts
from moiety.mixtures.logit import Array
from moiety.mixtures.model import Mixture, centring_matrix, map_covariates, uncentring_matrix
from moiety.mixtures.scale import (
    StandardScale,
    compute_moments,
    goes_with_scale,
    make_standard_scale,
    rescale_response,
    standardise_pair,
)

KINDS = ("observed", "sandwich")
SINGULAR = 1e-10  # an eigenvalue, relative to the largest, in whose direction nothing is known


def count_spreads(experts: Experts) -> int:
    """Count the parameters of an expert beside its coefficients."""
    if isinstance(experts, LinkedExperts):
        return len(experts.spreads)
    return int(isinstance(experts, GaussianExperts))


@dataclass(frozen=True)
class StandardisedMixture:
    """A mixture in standardised units, and the way back.

    ``lift`` takes parameters in these units to those of the rows; ``known`` marks the parameters of
    columns that vary.
    """

    mixture: Mixture
    scale: StandardScale
    lift: Array
    known: Array


def standardise_with_inverse(
    mixture: Mixture, mean: Array, scale: StandardScale
) -> StandardisedMixture:
    """Express a mixture in standardised units; a constant column joins the intercept.

    Args:
        mixture: in the rows' units.
        mean: means of all covariates, [d], those of constant ones included.
        scale: what standardises the columns that vary.
    """
    classes = (
        mixture.experts.coef.shape[2] if isinstance(mixture.experts, CategoricalExperts) else 0
    )
    spread = np.ones(len(mean))
    spread[scale.kept] = scale.spread
    columns = np.concatenate([[True], scale.kept])
    moved = map_covariates(
        map_covariates(mixture, centring_matrix(mean, spread)), np.eye(len(columns))[columns]
    )
    moved = rescale_response(moved, -scale.shift / scale.factor, 1 / scale.factor)
    back = uncentring_matrix(mean, spread)[:, columns]
    ends = [np.ones(1)] * count_spreads(mixture.experts)
    each = [back * scale.factor] * max(classes - 1, 1)
    size = mixture.num_experts
    noise = [np.ones(1)] * int(mixture.noise is not None)
    lift = np.asarray(block_diag(*[back] * (size - 1), *[*each, *ends] * size, *noise))
    kept = [columns] * max(classes - 1, 1) + [np.ones(len(ends), bool)]
    known = np.concatenate([columns] * (size - 1) + kept * size + [np.ones(len(noise), bool)])
    return StandardisedMixture(moved, scale, lift, known)


def standard_errors(
    mixture: Mixture,
    rows: RowArrays,
    kind: str = "observed",
    prior: Prior = DEFAULT_PRIOR,
    terms: Sequence[str] | None = None,
) -> dict[str, Array]:
    """Give standard errors: ``gate`` [D, K - 1], ``experts``, and ``log_variances`` [K].

    With noise, ``noise`` [] is that of its log-odds. Parameters that were not free, such as those
    of columns that the gate does not use, have the error 0; penalties are not seen.

    Categorical coefficients of the last class are 0 by definition and have none. The coefficient of
    a constant column is 0 by convention; its error is NaN, and so is that of any other parameter
    that the rows do not identify.

    Args:
        mixture: at its maximum on these rows.
        rows: ``(x, y, weights)``, the constant first.
        kind: ``"observed"`` information, or ``"sandwich"``, which holds where the law is not quite
            that of the mixture. A weight of two is the same row twice.
        prior: of the fit, which says what was free.
        terms: the columns' names for the warning, the constant's first.
    """
    if kind not in KINDS:
        raise ValueError(f"{kind=} is not known; choose from {list(KINDS)}")
    x, y, weights = rows[0][:, 1:], rows[1], rows[2]
    found = compute_moments(x, y, weights)
    fixed = not goes_with_scale(mixture.experts)
    there = standardise_with_inverse(
        mixture, found.mean[:-1], make_standard_scale(found, classes=int(fixed))
    )
    ready = (*standardise_pair(there.scale, x, y), weights)
    filling = sum_score_products(there.mixture, [ready]) if kind == "sandwich" else None
    inside = replace(prior, free=prior.free.express(there.scale))
    free = find_free_parameters(there.mixture, inside)
    twins = np.where(free, find_twins(there.mixture, inside), -1)
    found = derive_errors(there, observed_information(there.mixture, [ready]), filling, twins)
    warn_unidentified(found, terms)
    return found


def derive_errors(
    there: StandardisedMixture,
    information: Array,
    filling: Array | None = None,
    twins: Array | None = None,
) -> dict[str, Array]:
    """Give standard errors from the information in standardised units; see standard_errors.

    With a filling, the sum of the scores' outer products, they are those of a sandwich. ``twins``
    gives for each parameter the first that it is one with, or -1 where it was not free.
    """
    lift = there.lift
    if twins is not None and (twins != np.arange(len(twins))).any():
        free = twins >= 0
        basis = np.equal.outer(twins[free], np.unique(twins[free])).astype(float)
        information, lift = basis.T @ information[np.ix_(free, free)] @ basis, lift[:, free] @ basis
        if filling is not None:
            filling = basis.T @ filling[np.ix_(free, free)] @ basis
    with np.errstate(invalid="ignore"):
        variances = _derive_variances(information, lift)
        if filling is not None:
            robust = _derive_sandwich(information, lift, filling)
            variances = np.where(np.isnan(variances), np.nan, robust)
        spread = np.where(there.known, np.sqrt(variances), np.nan)
    experts, columns = there.mixture.num_experts, len(there.scale.kept) + 1
    cut, noise = columns * (experts - 1), {}
    if there.mixture.noise is not None:
        spread, noise = spread[:-1], {"noise": spread[-1]}
    gate, rest = spread[:cut].reshape(experts - 1, columns).T, spread[cut:].reshape(experts, -1)
    if isinstance(there.mixture.experts, CategoricalExperts):
        found = {"gate": gate, "experts": rest.reshape(experts, -1, columns).transpose(2, 0, 1)}
    elif isinstance(there.mixture.experts, GaussianExperts):
        found = {"gate": gate, "experts": rest[:, :-1].T, "log_variances": rest[:, -1]}
    else:
        law, cut = there.mixture.experts.law, rest.shape[1] - count_spreads(there.mixture.experts)
        names = [f"log_{name}" for name in law.spread_names]
        found = {"gate": gate, "experts": rest[:, :cut].T}
        found |= dict(zip(names, rest[:, cut:].T, strict=True))
    return found | noise


def _derive_variances(information: Array, lift: Array) -> Array:
    """Give the variances of ``lift`` times the parameters; NaN where they are not identified."""
    scale = np.abs(np.diag(information))
    bare = scale <= 1e-12 * scale.max()
    scale = np.sqrt(np.where(bare, 1.0, scale))
    ready, even = lift / scale, information / np.outer(scale, scale)
    even[bare] = even[:, bare] = 0.0
    try:
        half = np.linalg.cholesky(even)
        if np.diag(half).min() ** 2 > SINGULAR:
            return (np.linalg.solve(half, ready.T) ** 2).sum(0)
    except np.linalg.LinAlgError:
        pass
    values, vectors = np.linalg.eigh(even)
    parts = (ready @ vectors) ** 2
    flat = np.abs(values) <= SINGULAR * np.abs(values).max()
    lost = parts[:, flat].sum(1) > 1e-8 * parts.sum(1)
    found = (parts[:, ~flat] / values[~flat]).sum(1)
    return np.where(lost | (found < 0), np.nan, found)


def _derive_sandwich(information: Array, lift: Array, filling: Array) -> Array:
    """Give the variances of ``lift`` times the parameters, whatever the law of the rows."""
    scale = np.sqrt(np.maximum(np.abs(np.diag(information)), 1e-300))
    bread = np.linalg.pinv(information / np.outer(scale, scale), rcond=SINGULAR, hermitian=True)
    half = lift @ (bread / np.outer(scale, scale))
    return np.einsum("ip,pq,iq->i", half, filling, half)


def warn_unidentified(
    found: dict[str, Array], terms: Sequence[str] | None = None, *, depth: int = 4
) -> None:
    """Say which parameters the rows do not identify, to the caller at this depth."""
    missing = [np.argwhere(np.isnan(found[name]))[:, 0] for name in ("gate", "experts")]
    rows = np.unique(np.concatenate(missing)).tolist()
    count = sum(int(np.isnan(part).sum()) for part in found.values())
    if count:
        plain = ["intercept", *(f"covariate {at}" for at in range(max(rows, default=0)))]
        names = [str((terms or plain)[at]) for at in rows]
        warnings.warn(
            f"{count} standard errors are NaN ({', '.join(names) or 'variances'}): these rows do "
            "not identify them; leave out constant and collinear columns, or fit fewer experts",
            UserWarning,
            stacklevel=depth,
        )
