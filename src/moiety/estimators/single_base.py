"""Fitting on one machine: whole, from the last solution, or chunk by chunk.

Letters: N rows, d covariates.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from moiety.estimators.base import (
    ALGORITHMS,
    MixtureEstimator,
    make_numpy_generator,
)
from moiety.estimators.columns import check_offset_varies
from moiety.estimators.diagnose import warn_degenerate, warn_overfitted, warn_unconverged
from moiety.estimators.noise import choose_noise
from moiety.estimators.online import (
    ROWS_PER_PARAMETER,
    WaitingRows,
    append_waiting_rows,
    begin_online_fit,
    express_in_row_units,
    update_online_fit,
)
from moiety.estimators.saved import check_mixture
from moiety.mixtures.climb import Fit
from moiety.mixtures.em_starts import make_labelled_start, raise_variances
from moiety.mixtures.fit import RowArrays, Search
from moiety.mixtures.inputs import LocalFit
from moiety.mixtures.learn import LearnedMixture, count_needed_parameters, learn_rows, limit_experts
from moiety.mixtures.logit import Array
from moiety.mixtures.model import Mixture
from moiety.mixtures.scale import standardise_mixture
from moiety.mixtures.worker import drop_zero_weights, lift_weights


def _soften(mixture: Mixture) -> Mixture:
    """Raise the variances of a mixture to what EM can start from."""
    return replace(mixture, experts=raise_variances(mixture.experts))


def _start_from_user_labels(ready: RowArrays, labels: Array, search: Search) -> Mixture:
    """Start from the user's labels, of rows in standardised units."""
    places = np.unique(labels, return_inverse=True)[1]
    if places.max() >= search.num_experts:
        raise ValueError(
            f"init has {places.max() + 1} labels for {search.num_experts} experts; give as many"
        )
    zero = search.make_blank(ready[0].shape[1])
    used = search.prior.free.find_expert_rows(ready[0].shape[1])
    return make_labelled_start(zero, ready, places, used)


class SingleEstimator(MixtureEstimator):
    """The fits of an estimator whose rows are on one machine."""

    warm_start: bool

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Fit by EM from several starts.

        Args:
            X: covariates, [N, d].
            y: responses, [N].
            sample_weight: weights, [N]; a row of weight two is the same row twice.
        """
        earlier = self.mixture_ if self.warm_start and "mixture_" in vars(self) else None
        X, y, weights = self._rows(X, y, sample_weight, reset=True)
        (X, y, weights), factor = lift_weights(drop_zero_weights((X, y, weights)))
        self._learn_classes(y)
        rows = (X, self._encoded(y), weights)
        search = self._capped(rows)
        learned = self._learn(rows, search, earlier)
        self._publish(learned, factor, len(X))
        self._warn(learned, rows)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, *, classes: Any = None) -> Any:
        """Learn from the next chunk of a stream.

        While there are fewer than ten rows per parameter they are held, and all of them are fitted
        anew with as many experts as they bear. From then on each chunk moves the fit once.

        Args:
            X: covariates, [N, d].
            y: responses, [N].
            sample_weight: weights, [N]; only their ratios matter, also between chunks.
            classes: all classes that will come, for classifiers, with the first chunk.
        """
        if not isinstance(self.init, str) and self._known_start() is None:
            raise ValueError("init holds labels of rows, and a stream has none yet; name a start")
        first = "mixture_" not in vars(self)
        X, y, weights = drop_zero_weights(self._rows(X, y, sample_weight, reset=first))
        if first:
            self._learn_classes(y if classes is None else np.asarray(classes))
        rows = (X, self._encoded(y), weights)
        state = None if first else vars(self).get("stream_")
        if first or isinstance(state, WaitingRows):
            return self._gather(
                append_waiting_rows(state if isinstance(state, WaitingRows) else None, rows)
            )
        if state is None:
            if "learned_" not in vars(self):
                raise ValueError("a loaded fit cannot go on as a stream; fit anew, or keep it open")
            state = begin_online_fit(self.learned_, self.n_rows_, self.lift_)
        self.stream_ = update_online_fit(state, rows, self._search().prior)
        moved = express_in_row_units(self.stream_)
        self.local_fit_ = LocalFit(moved, self.stream_.rows)  # its information has moved on
        return self._show(moved)

    def _gather(self, raw: RowArrays) -> Any:
        """Fit all rows so far, and hold them while they are few."""
        rows, factor = lift_weights(raw)
        search, columns = self._search_for(rows), rows[0].shape[1] + 1
        asked = search.num_experts, columns, search.classes
        search = replace(search, num_experts=limit_experts(*asked, rows[2].sum()))
        learned = self._learn(rows, search, None)
        self._publish(learned, factor, len(raw[0]))
        if len(raw[0]) < ROWS_PER_PARAMETER * count_needed_parameters(*asked):
            self.stream_ = WaitingRows(raw)
            return self
        self._warn(learned, rows)
        self.stream_ = begin_online_fit(learned, len(raw[0]), factor)
        return self

    def _learn(self, rows: RowArrays, search: Search, earlier: Mixture | None) -> LearnedMixture:
        """Let the starts compete, or go on from an earlier solution."""
        rng, begin = make_numpy_generator(self.random_state), self._begin(earlier, rows, search)
        solve = ALGORITHMS[self.algorithm]
        return learn_rows(rows, search, rng, each=self._each, begin=begin, solve=solve)

    def _search_for(self, rows: RowArrays) -> Search:
        """Give the search for these rows, in which noise knows its range."""
        search = self._search()
        check_offset_varies(
            self.offset, search.prior.free, rows[0],
            "rows; leave it out, since the intercepts say as much",
        )  # fmt: skip
        law = search.law
        return replace(
            search, noise=choose_noise(self.noise, rows[1], whole=law is not None and law.whole)
        )

    def _capped(self, rows: RowArrays) -> Search:
        search, columns = self._search_for(rows), rows[0].shape[1] + 1
        most = limit_experts(search.num_experts, columns, search.classes, rows[2].sum())
        if most < search.num_experts:
            warnings.warn(
                f"{len(rows[0])} rows are too few for n_experts={search.num_experts} with "
                f"{columns - 1} covariates; {most} fitted instead; choose fewer, or add rows",
                UserWarning,
                stacklevel=3,
            )
        return replace(search, num_experts=most)

    def _each(self, function: Any, items: Iterable[Mixture]) -> Iterable[Fit]:
        """Run starts side by side on threads; the matrix products release the lock."""
        if self.n_jobs is None:
            return map(function, items)
        jobs = Parallel(n_jobs=self.n_jobs, prefer="threads")
        return jobs(delayed(function)(item) for item in items)  # type: ignore[return-value]

    def _begin(self, earlier: Mixture | None, rows: RowArrays, search: Search) -> Any:
        """Give what makes the only start, where the user named one."""
        known = self._known_start() if earlier is None else earlier
        if known is not None:
            check_mixture(known, self, "init" if earlier is None else "the earlier fit")
            if earlier is not None and earlier.num_experts != search.num_experts:
                raise ValueError(
                    f"warm_start goes on from {earlier.num_experts} experts, and "
                    f"{search.num_experts} are asked for; fit by warm_start=False"
                )
            return lambda scale, _: _soften(standardise_mixture(known, scale))
        if isinstance(self.init, str):
            return None
        labels = np.asarray(self.init)
        if labels.shape != rows[1].shape:
            raise ValueError(
                f"init has shape {labels.shape}, but {len(rows[1])} rows have weight; "
                "give one label per row"
            )
        return lambda _, ready: _start_from_user_labels(ready, labels, search)

    def _publish(self, learned: LearnedMixture, factor: float, count: int) -> None:
        """Set what a fit of so many rows leaves behind; weights were multiplied by a factor."""
        self.learned_, self.stream_ = learned, None
        self.lift_, self.n_rows_ = factor, count
        self.n_iter_ = learned.fit.steps
        self.converged_ = learned.fit.converged
        self.floored_, self.expert_rows_ = learned.floored, learned.mass
        self.local_fit_ = learned.local()
        self.covariate_mean_, self.covariate_sd_ = learned.scale.measure_covariates()
        self.log_likelihoods_ = np.array(learned.trace)
        self._show(learned.mixture)

    def _warn(self, learned: LearnedMixture, rows: RowArrays) -> None:
        """Say what the user of a fit to these rows must know."""
        warn_unconverged(learned, self.max_iter)
        warn_overfitted(learned, self.n_parameters_)
        warn_degenerate(learned, rows)
