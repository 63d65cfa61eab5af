"""What must hold before estimators that were fitted elsewhere are reduced.

Letters: M estimators, S support rows, d covariates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from moiety.estimators.base import MixtureEstimator
from moiety.estimators.online import OnlineFit
from moiety.mixtures.experts import CategoricalExperts
from moiety.mixtures.inputs import LocalFit
from moiety.mixtures.logit import Array
from moiety.mixtures.model import Mixture


def collect_mixtures(estimators: Sequence[Any], *, classifies: bool) -> list[Mixture]:
    """Give the mixtures, all fitted and of one kind."""
    if not len(estimators):
        raise ValueError("no estimators; give at least one")
    kinds = {True: "classifier", False: "regressor"}
    found = []
    for at, one in enumerate(estimators):
        if not isinstance(one, (Mixture, MixtureEstimator)):
            raise ValueError(  # noqa: TRY004 - as all refusals here
                f"estimator {at} is a {type(one).__name__}; give fitted estimators or mixtures"
            )
        if isinstance(one, MixtureEstimator):
            check_is_fitted(one)
        mixture = one if isinstance(one, Mixture) else one.mixture_
        if isinstance(mixture.experts, CategoricalExperts) != classifies:
            raise ValueError(
                f"estimator {at} is a {kinds[not classifies]}, and this merges "
                f"{kinds[classifies]}s; use the distributed {kinds[not classifies]}"
            )
        found.append(mixture)
    return found


def find_row_count(one: Any) -> float | None:
    """Give the rows that an estimator was fitted to, if it knows them."""
    parts = vars(one)
    if isinstance(parts.get("stream_"), OnlineFit):
        return parts["stream_"].rows
    if "learned_" in parts:
        return float(parts["learned_"].rows)
    return float(sum(local.rows for local in parts["locals_"])) if "locals_" in parts else None


def choose_fit_weights(estimators: Sequence[Any], weights: Any) -> Array:
    """Give the weights: those named, else the rows of the fits, else equal ones."""
    if weights is None:
        rows = [find_row_count(one) for one in estimators]
        known = [count for count in rows if count is not None]
        return np.array(known) if len(known) == len(rows) else np.ones(len(rows))
    share = np.asarray(weights, dtype=np.float64)
    if share.shape != (len(estimators),):
        raise ValueError(
            f"{share.size} weights for {len(estimators)} estimators; give one positive weight "
            "for each"
        )
    bad = np.flatnonzero(~(np.isfinite(share) & (share > 0)))
    if len(bad):
        raise ValueError(f"weight {bad[0]} is {share[bad[0]]}; give positive numbers, such as rows")
    return share


def agree_on_names(estimators: Sequence[Any], support: Any) -> tuple[str, ...] | None:
    """Give the columns' names on which all that have names agree."""
    named = [
        (f"estimator {at}", tuple(one.feature_names_in_))
        for at, one in enumerate(estimators)
        if "feature_names_in_" in vars(one)
    ]
    if getattr(support, "columns", None) is not None:
        named.append(("the support", tuple(map(str, support.columns))))
    for who, names in named[1:]:
        if names != named[0][1]:
            raise ValueError(
                f"{who} has the columns {list(names)}, but {named[0][0]} has "
                f"{list(named[0][1])}; fit all to the same columns in the same order"
            )
    return named[0][1] if named else None


def check_merge_support(mixtures: Sequence[Mixture], support: Any) -> Array:
    """Give the support as numbers, [S, d]."""
    x = np.asarray(support, dtype=np.float64)
    if x.ndim != 2 or not len(x):
        raise ValueError(f"support has the shape {x.shape}; give covariates [S, d], a row or more")
    widths = {mixture.gate.shape[0] - 1 for mixture in mixtures} | {x.shape[1]}
    if len(widths) > 1:
        raise ValueError(
            f"the estimators and the support have {sorted(widths)} covariates; "
            "fit all to the same ones"
        )
    bad = np.argwhere(~np.isfinite(x))
    if len(bad):
        raise ValueError(
            f"support has {x[tuple(bad[0])]} in row {bad[0][0]}, covariate {bad[0][1]}; "
            "drop such rows"
        )
    return x


def collect_local_fits(
    estimators: Sequence[Any], mixtures: Sequence[Mixture], share: Array, *, informed: bool
) -> list[LocalFit]:
    """Lay out what the machines would have sent; a stream's information has moved on."""
    moving = [isinstance(vars(one).get("stream_"), OnlineFit) for one in estimators]
    fits = [
        None if moves else vars(one).get("learned_")
        for one, moves in zip(estimators, moving, strict=True)
    ]
    return [
        LocalFit(mixture, float(part), fit.information if fit is not None and informed else None)
        for mixture, part, fit in zip(mixtures, share, fits, strict=True)
    ]
