"""Standard errors, computed in standardised units so that the rows' units do not matter.

Letters: N rows, D columns with the constant, Q of them that vary, K experts, P parameters.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy.linalg import block_diag

from moiety.ops.mixture.experts import Categorical
from moiety.ops.mixture.fit import Rows
from moiety.ops.mixture.information import observed_information
from moiety.ops.mixture.logit import Array
from moiety.ops.mixture.model import Mixture, centring, design, mapped, uncentring
from moiety.ops.mixture.scale import moments, scale_of, stretched

FLAT = 1e-10  # an eigenvalue, relative to the largest, in whose direction nothing is known


def standard_errors(mixture: Mixture, rows: Rows) -> dict[str, Array]:
    """Give standard errors: ``gate`` [D, K - 1], ``experts``, and ``log_variances`` [K].

    Categorical coefficients of the last class are 0 by definition and have none. The coefficient of
    a constant column is 0 by convention; its error is NaN, and so is that of any other parameter
    that the rows do not identify.
    """
    information, lift, known = _standardised(mixture, rows)
    with np.errstate(invalid="ignore"):
        spread = np.where(known, np.sqrt(_variances(information, lift)), np.nan)
    columns, experts = mixture.gate.shape
    cut = columns * (experts - 1)
    gate, rest = spread[:cut].reshape(experts - 1, columns).T, spread[cut:].reshape(experts, -1)
    if isinstance(mixture.experts, Categorical):
        found = {"gate": gate, "experts": rest.reshape(experts, -1, columns).transpose(2, 0, 1)}
    else:
        found = {"gate": gate, "experts": rest[:, :-1].T, "log_variances": rest[:, -1]}
    _warn(found)
    return found


def _standardised(mixture: Mixture, rows: Rows) -> tuple[Array, Array, Array]:
    """Give the information on columns that vary, what leads back, and the rows' parameters."""
    x, y, weights = rows[0][:, 1:], rows[1], rows[2]
    classes = mixture.experts.coef.shape[2] if isinstance(mixture.experts, Categorical) else 0
    found = moments(x, y, weights)
    scale = scale_of(found, classes=classes)
    mean, spread = found.mean[:-1], np.ones(x.shape[1])
    spread[scale.kept] = scale.spread
    columns = np.concatenate([[True], scale.kept])
    moved = mapped(mapped(mixture, centring(mean, spread)), np.eye(len(columns))[columns])
    moved = stretched(moved, -scale.shift / scale.factor, 1 / scale.factor)
    x_NQ = design((x[:, scale.kept] - scale.mean) / scale.spread)
    ready = (x_NQ, (y - scale.shift) / scale.factor, weights)
    back = uncentring(mean, spread)[:, columns]
    ends = [np.ones(1)] if not classes else []
    each = [back * scale.factor] * max(classes - 1, 1)
    size = mixture.num_experts
    lift = np.asarray(block_diag(*[back] * (size - 1), *[*each, *ends] * size))
    kept = [columns] * max(classes - 1, 1) + [np.ones(len(ends), bool)]
    known = np.concatenate([columns] * (size - 1) + kept * size)
    return observed_information(moved, [ready]), lift, known


def _variances(information: Array, lift: Array) -> Array:
    """Give the variances of ``lift`` times the parameters; NaN where they are not identified."""
    scale = np.abs(np.diag(information))
    bare = scale <= 1e-12 * scale.max()
    scale = np.sqrt(np.where(bare, 1.0, scale))
    ready, even = lift / scale, information / np.outer(scale, scale)
    even[bare] = even[:, bare] = 0.0
    try:
        half = np.linalg.cholesky(even)
        if np.diag(half).min() ** 2 > FLAT:
            return (np.linalg.solve(half, ready.T) ** 2).sum(0)
    except np.linalg.LinAlgError:
        pass
    values, vectors = np.linalg.eigh(even)
    parts = (ready @ vectors) ** 2
    flat = np.abs(values) <= FLAT * np.abs(values).max()
    lost = parts[:, flat].sum(1) > 1e-8 * parts.sum(1)
    found = (parts[:, ~flat] / values[~flat]).sum(1)
    return np.where(lost | (found < 0), np.nan, found)


def _warn(found: dict[str, Array]) -> None:
    """Say which parameters the rows do not identify."""
    missing = [np.argwhere(np.isnan(found[name]))[:, 0] for name in ("gate", "experts")]
    rows = np.unique(np.concatenate(missing)).tolist()
    count = sum(int(np.isnan(part).sum()) for part in found.values())
    if count:
        names = ["intercept" if at == 0 else f"covariate {at - 1}" for at in rows]
        warnings.warn(
            f"{count} standard errors are NaN ({', '.join(names) or 'variances'}): these rows do "
            "not identify them; leave out constant and collinear columns, or fit fewer experts",
            UserWarning,
            stacklevel=4,
        )
