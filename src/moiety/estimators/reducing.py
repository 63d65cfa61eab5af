"""Mixtures that are there already, reduced to one.

Letters: M machines, K experts.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from moiety.estimators.base import MixtureEstimator, make_numpy_generator
from moiety.estimators.diagnose import warn_incompatible
from moiety.estimators.merging import (
    agree_on_names,
    check_merge_support,
    choose_fit_weights,
    collect_local_fits,
    collect_mixtures,
    open_estimators,
    warn_foreign_support,
)
from moiety.estimators.options import check_reduction
from moiety.estimators.saved import check_family
from moiety.mixtures.inputs import LocalFit, Support, keep_support
from moiety.mixtures.logit import Array, log_sum_exp
from moiety.mixtures.model import Mixture, count_mixture_parameters, log_density
from moiety.mixtures.pooled import measure_centre
from moiety.mixtures.reduce import ReductionConfig, ReductionResult, reduce_fits
from moiety.mixtures.restrict import check_restricted
from moiety.mixtures.screen import are_incompatible


class ReducingEstimator(MixtureEstimator):
    """The part of a distributed estimator that asks no machine."""

    cost: str
    gate: str
    reduction: str
    screen: bool
    keep_support: bool
    alone: type

    def merge(self, estimators: Sequence[Any], weights: Any = None, *, support: Any) -> Any:
        """Reduce estimators that were fitted elsewhere.

        Args:
            estimators: fitted estimators, folders that their ``save`` wrote, or mixtures; their
                numbers of experts may differ.
            weights: the rows that each was fitted to; where not given, those that the fits know, or
                equal ones.
            support: covariates on which experts are compared, [S, d]; public ones do, or those of
                ``draw_covariates``.
        """
        self._check_search()
        check_reduction(self.cost, self.gate, self.reduction, self._costs())
        estimators = open_estimators(estimators, (self.alone, type(self)))
        mixtures = collect_mixtures(estimators, classifies=self._classifies())
        share, names = choose_fit_weights(estimators, weights), agree_on_names(estimators, support)
        x = check_merge_support(mixtures, support)
        warn_foreign_support(estimators, x)
        self._adopt(estimators, mixtures)
        for at, mixture in enumerate(mixtures):
            check_family(mixture, self, f"estimator {at}")
        self.n_features_in_ = x.shape[1]
        vars(self).pop("feature_names_in_", None)
        if names is not None:
            self.feature_names_in_ = np.array(names, dtype=object)
        locals_ = collect_local_fits(estimators, mixtures, share, informed=weights is None)
        return self._finish(
            locals_, Support(x, np.ones(len(x))), make_numpy_generator(self.random_state)
        )

    def reduce_again(self, **choices: Any) -> Any:
        """Reduce the same local fits in another way, with nothing sent again.

        Args:
            choices: parameters to change: ``cost``, ``gate``, ``reduction``, ``screen`` or
                ``n_experts``. No refining rounds are made.

        Returns:
            Another estimator; this one stays as it is.
        """
        check_is_fitted(self)
        if "support_" not in vars(self):
            raise ValueError(
                "the support's rows were not kept when this fit was written; fit by "
                "keep_support=True, or merge the fits on another support"
            )
        copy: Any = clone(self)
        other = copy.set_params(**choices)
        for name in ("classes_", "n_features_in_", "feature_names_in_"):
            if name in vars(self):
                setattr(other, name, getattr(self, name))
        return other._finish(self.locals_, self.support_, make_numpy_generator(self.random_state))  # noqa: SLF001

    def _recipe(self) -> ReductionConfig:
        return ReductionConfig(
            self.n_experts,
            self.cost,
            self.gate,
            screen=self.screen,
            reduction=self.reduction,
            free=self._prior().free,
        )

    def _adopt(self, estimators: Sequence[Any], mixtures: Sequence[Mixture]) -> None:
        """Take over what fitted estimators agree on."""

    def __getstate__(self) -> dict[str, Any]:
        """Leave the support out of copies that leave the process: it may hold rows."""
        state: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]
        if not self.keep_support:
            state.pop("support_", None)
        return state

    def _finish(self, locals_: list[LocalFit], support: Support, rng: np.random.Generator) -> Any:
        """Reduce fits that are here already."""
        check_restricted(locals_, self._prior().free)
        self._publish(reduce_fits(locals_, support, self._recipe(), rng), locals_, support)
        if self.incompatible_:
            warn_incompatible(
                self.misfits_[self.kept_], "fit the shards by refine_rounds='auto', or pool them"
            )
        return self

    def _publish(self, done: ReductionResult, fits: Sequence[LocalFit], support: Support) -> Any:
        """Set what a fitted estimator shows."""
        self._warn(done, fits)
        self.locals_, self.kept_ = list(fits), done.kept
        self.support_ = keep_support(support, done.kept)
        self.covariate_mean_, self.covariate_sd_ = measure_centre(self.support_)
        self.objective_, self.divergences_ = np.array(done.trace), done.divergence
        self.misfits_, self.strain_ = done.misfit, done.strain
        return self._show(done.mixture)

    def _warn(self, done: ReductionResult, fits: Sequence[LocalFit]) -> None:
        """Say which fits were left out, and whether the others agree."""
        dropped = np.flatnonzero(~done.kept).tolist()
        if dropped:
            warnings.warn(
                f"the fits of machines {dropped} stand far from the others and were left out; "
                "refit them from the result, or pass screen=False where machines differ for good "
                "reasons, as where rows are sorted by the response",
                UserWarning,
                stacklevel=4,
            )
        rows = np.array([fit.rows for fit in fits])[done.kept]
        self.incompatible_ = done.strain > 0 and are_incompatible(
            done.misfit[done.kept], rows, count_mixture_parameters(done.mixture)
        )

    def unreduced_log_density(self, X: Any, y: Any) -> Array:
        """Give the log density of the average of all local fits, which has M * K experts, [N]."""
        x_ND, y, _ = self._seen(X, y)
        rows = np.array([local.rows for local in self.locals_])
        parts = [log_density(local.mixture, x_ND, y) for local in self.locals_]
        return log_sum_exp(np.stack(parts, 1) + np.log(rows / rows.sum()))
