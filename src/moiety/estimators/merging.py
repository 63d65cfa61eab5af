"""What must hold before estimators that were fitted elsewhere are reduced.

Letters: M estimators, S support rows, d covariates.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from moiety.estimators.base import MixtureEstimator
from moiety.estimators.diagnose import say
from moiety.estimators.saved import read_estimator
from moiety.mixtures.categorical import CategoricalExperts
from moiety.mixtures.experts import Experts
from moiety.mixtures.inputs import LocalFit
from moiety.mixtures.linked import LinkedExperts
from moiety.mixtures.logit import Array
from moiety.mixtures.model import Mixture
from moiety.mixtures.scale import find_varying

FAR = 5.0  # spreads of the fits' rows beyond which a support's mean is foreign
WIDE = 10.0  # times wider or narrower than the rows of the fits


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
        if mixture.noise is not None:
            raise ValueError(
                f"estimator {at} has a share of noise, which no reduction knows; fit without noise"
            )
        found.append(mixture)
    laws = {describe_family(mixture.experts) for mixture in found}
    if len(laws) > 1:
        raise ValueError(
            f"the estimators have the families {sorted(laws)}; fit all with the same family"
        )
    return found


def describe_family(experts: Experts) -> str:
    """Say of which family experts are, so that those that differ say so."""
    return str(experts.law) if isinstance(experts, LinkedExperts) else type(experts).__name__


def open_estimators(estimators: Sequence[Any], kinds: Sequence[type]) -> list[Any]:
    """Read those that are paths of folders; the others are there already."""
    if isinstance(estimators, (str, Path)):
        raise ValueError(  # noqa: TRY004 - as all refusals here
            f"estimators is one path, {str(estimators)!r}; give a list of them"
        )
    return [
        read_estimator(one, kinds) if isinstance(one, (str, Path)) else one for one in estimators
    ]


def find_row_count(one: Any) -> float | None:
    """Give the rows that an estimator was fitted to, if it knows them."""
    parts = vars(one)
    if "local_fit_" in parts:
        return float(parts["local_fit_"].rows)
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
    """Give the support as numbers, [S, d]; on it the experts must be told apart."""
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
    check_support_rank(x, np.any([find_used_columns(mixture) for mixture in mixtures], 0))
    return x


def check_support_rank(x: Array, used: Array) -> None:
    """Refuse rows too few to tell experts apart that depend on the columns in use, [d]."""
    if len(x) < used.sum() + 1:
        raise ValueError(
            f"support has {len(x)} rows, but the experts depend on {used.sum()} covariates and "
            f"are told apart on {used.sum() + 1} rows or more; give a few hundred"
        )
    still = np.flatnonzero(used & ~find_varying(x.mean(0), x.std(0))).tolist()
    if still:
        say(
            f"the covariates {still} do not vary in the support: nothing of what the fits know of "
            "them is kept, and their coefficients become 0; give rows in which all covariates vary"
        )


def find_used_columns(mixture: Mixture) -> Array:
    """Tell on which covariates a mixture depends, [d]."""
    coef = mixture.experts.coef
    moves = (mixture.gate != 0).any(1) | (coef.reshape(len(coef), -1) != 0).any(1)
    return moves[1:]


def warn_foreign_support(estimators: Sequence[Any], x: Array) -> None:
    """Say where the support lies far from the rows of the fits, or is far wider or narrower."""
    known = [one for one in estimators if "covariate_sd_" in vars(one)]
    if not known:
        return
    mean = np.array([one.covariate_mean_ for one in known])
    spread = np.array([one.covariate_sd_ for one in known])
    held = np.isfinite(mean) & (spread > 0)
    low = np.where(held, mean - FAR * spread, np.inf).min(0)
    high = np.where(held, mean + FAR * spread, -np.inf).max(0)
    middle, wide = x.mean(0), x.std(0)
    largest = np.where(held, spread, 0).max(0)
    far = held.any(0) & ((middle < low) | (middle > high))
    odd = held.any(0) & ((wide > WIDE * (high - low) / (2 * FAR)) | (wide * WIDE < largest))
    for column in np.flatnonzero(far | odd):
        say(
            f"support covariate {column} has mean {middle[column]:.3g} and spread "
            f"{wide[column]:.3g}, but the fits saw spreads up to {largest[column]:.3g} between "
            f"{low[column]:.3g} and {high[column]:.3g}: experts are compared where no rows were; "
            "give rows like those of the fits, in the same units"
        )


def collect_local_fits(
    estimators: Sequence[Any], mixtures: Sequence[Mixture], share: Array, *, informed: bool
) -> list[LocalFit]:
    """Lay out what the machines would have sent."""
    fits = [vars(one).get("local_fit_") for one in estimators]
    return [
        LocalFit(mixture, float(part), fit.information if fit is not None and informed else None)
        for mixture, part, fit in zip(mixtures, share, fits, strict=True)
    ]
