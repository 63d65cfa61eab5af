"""Mixtures of experts fitted on many machines and reduced to one.

Letters: M machines, K experts.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from moiety.estimators.assess import Assessment, assess_shards
from moiety.estimators.base import ALGORITHMS, MixtureEstimator, make_numpy_generator
from moiety.estimators.exchange import NO_TRAFFIC, ExchangeTraffic, Spent, make_exchange_ledger
from moiety.estimators.machines import OpenedShards, ShardEngine
from moiety.estimators.merging import (
    agree_on_names,
    check_merge_support,
    choose_fit_weights,
    collect_local_fits,
    collect_mixtures,
)
from moiety.estimators.method import Refining, make_fit_method, play_fit, play_refining
from moiety.estimators.opening import LazyShard, ShardColumns, open_shard
from moiety.estimators.options import check_reduction, check_whole_number
from moiety.estimators.shards import Shard, agree_on_columns
from moiety.merge.transport import read_fits, read_reduction
from moiety.mixtures.em import Prior
from moiety.mixtures.fit import STARTS
from moiety.mixtures.inputs import LocalFit, Support
from moiety.mixtures.logit import Array, log_sum_exp
from moiety.mixtures.model import Mixture, count_mixture_parameters, log_density
from moiety.mixtures.reduce import ReductionConfig, ReductionResult, reduce_fits
from moiety.mixtures.screen import are_incompatible
from moiety.mixtures.worker import FitTask
from moiety.models.mixture import FREE
from moiety.server.mixtures import JUDGEMENT
from moiety.solve.em import FIT


class DistributedEstimator(MixtureEstimator):
    """Local fits side by side, one exchange, a reduction, and as many refining rounds as asked."""

    cost: str
    gate: str
    refine_rounds: int
    reduction: str
    screen: bool
    n_support: int | None
    target: Any

    def fit(self, shards: Iterable[Any], y: Any = None) -> Any:
        """Fit the shards.

        Args:
            shards: one shard per machine: ``(X, y)`` or ``(X, y, weights)``, the path of a Parquet,
                CSV or npy file, a frame, or a partition with ``compute()`` or ``to_pandas()``. Rows
                with names hold the response in the column ``target``; an npy file in its last
                column.
            y: not used; each shard has its own responses.
        """
        del y
        self._check_options()
        opened = self._open(shards)
        self._note_columns([shard.columns for shard in opened])
        agreement = self._agree(opened)
        streams = make_numpy_generator(self.random_state).spawn(len(opened) + 1)
        engine = ShardEngine(opened, getattr(self, "classes_", None), self.n_jobs)
        task, labelled = self._task(len(opened)), self.gate == "posterior"
        method = make_fit_method(task, self._recipe(), streams, labelled=labelled)
        state, reduced = play_fit(method, engine)
        self._note_columns([work.columns for work in engine.exchanges[0].works])
        sent = read_fits(engine.exchanges[0].replies, FREE)
        self._report(sent.fits, engine)
        done = read_reduction(FREE.read(state.params), state.server[JUDGEMENT])
        self._publish(done, sent.fits, sent.support)
        self.local_log_likelihoods_ = sent.log_likelihoods
        refined = Spent()
        if self.refine_rounds:
            prior, kept = Prior(self.ridge, self.variance_floor), np.flatnonzero(self.kept_)
            how = Refining(kept.tolist(), self.refine_rounds, prior)
            moved, refined = play_refining(self.mixture_, sent, engine, how)
            self._show(moved)
        result = 8 * count_mixture_parameters(self.mixture_) * len(opened)
        self.ledger_ = make_exchange_ledger(agreement, engine.exchanges, result, reduced, refined)
        return self

    def assess(self, shards: Iterable[Any]) -> Assessment:
        """Judge the reduced mixture on shards, in one exchange and with no row sent.

        Args:
            shards: as those of :meth:`fit`.

        Returns:
            Log-likelihood, ``bic``, ``aic``, ``icl`` and standard errors, as an estimator would
            give them on all rows in one place.
        """
        check_is_fitted(self)
        opened = self._open(shards)
        classes = getattr(self, "classes_", None)
        return assess_shards(opened, classes, self.mixture_, self.support_, self.n_jobs)

    def _open(self, shards: Iterable[Any]) -> list[Shard | LazyShard]:
        opened = [open_shard(shard, at, self.target) for at, shard in enumerate(shards)]
        if not opened:
            raise ValueError("no shards; give one per machine")
        return opened

    def merge(self, estimators: Sequence[Any], weights: Any = None, *, support: Any) -> Any:
        """Reduce estimators that were fitted elsewhere.

        Args:
            estimators: fitted estimators or mixtures; their numbers of experts may differ.
            weights: the rows that each was fitted to; where not given, those that the fits know, or
                equal ones.
            support: covariates on which experts are compared, [S, d]; public or simulated ones do.
        """
        check_reduction(self.cost, self.gate, self.reduction, classifies=self._classifies())
        mixtures = collect_mixtures(estimators, classifies=self._classifies())
        share, names = choose_fit_weights(estimators, weights), agree_on_names(estimators, support)
        x = check_merge_support(mixtures, support)
        self._adopt(estimators, mixtures)
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
        copy: Any = clone(self)
        other = copy.set_params(**choices)
        for name in ("classes_", "n_features_in_", "feature_names_in_"):
            if name in vars(self):
                setattr(other, name, getattr(self, name))
        return other._finish(self.locals_, self.support_, make_numpy_generator(self.random_state))  # noqa: SLF001

    def _check_options(self) -> None:
        """Refuse what cannot be meant, before anything is read."""
        self._check_search()
        check_whole_number(self, "refine_rounds", 0)
        check_reduction(self.cost, self.gate, self.reduction, classifies=self._classifies())
        if self.n_support is not None:
            check_whole_number(self, "n_support", 1)
        start = self._known_start()
        if start is None and not isinstance(self.init, str):
            raise ValueError(
                f"init={self.init!r} is of no use on shards; choose from {sorted(STARTS)}, or a "
                "fitted mixture"
            )
        if start is not None and start.num_experts != self.n_experts:
            raise ValueError(
                f"init has {start.num_experts} experts, but n_experts={self.n_experts}; "
                "give as many"
            )

    def _adopt(self, estimators: Sequence[Any], mixtures: Sequence[Mixture]) -> None:
        """Take over what fitted estimators agree on."""

    def _agree(self, opened: OpenedShards) -> ExchangeTraffic:
        """Settle what all machines must know before they fit."""
        del opened
        return NO_TRAFFIC

    def _note_columns(self, known: Sequence[ShardColumns]) -> None:
        columns = agree_on_columns(known)
        if columns is None:
            return
        vars(self).pop("feature_names_in_", None)
        self.n_features_in_ = columns if isinstance(columns, int) else len(columns)
        if not isinstance(columns, int):
            self.feature_names_in_ = np.array(columns, dtype=object)

    def _task(self, machines: int) -> FitTask:
        start, solve = self._known_start(), ALGORITHMS[self.algorithm]
        return FitTask(self._search(), self.n_support, machines, start, solve)

    def _recipe(self) -> ReductionConfig:
        return ReductionConfig(
            self.n_experts, self.cost, self.gate, screen=self.screen, reduction=self.reduction
        )

    def _report(self, fits: Sequence[LocalFit], engine: ShardEngine) -> None:
        """Note how the fits went, and say what went wrong where."""
        known = [engine.memory[at][FIT] for at in range(len(fits))]
        self.n_iter_ = max(reply.record.steps for reply in engine.exchanges[0].replies)
        self.converged_ = all(bool(one["converged"]) for one in known)
        for at, fit in enumerate(fits):
            if fit.mixture.num_experts < self.n_experts:
                warnings.warn(
                    f"shard {at} has {fit.rows:g} rows, too few for n_experts="
                    f"{self.n_experts}; it fitted {fit.mixture.num_experts}",
                    UserWarning,
                    stacklevel=3,
                )
        constant = np.array([one["constant"].numpy() for one in known])
        for column in np.flatnonzero(constant.any(0) & ~constant.all(0)):
            where = np.flatnonzero(constant[:, column]).tolist()
            warnings.warn(
                f"covariate {column} is constant on shards {where}: they know nothing of it, and "
                "their experts take its coefficient as 0; pool them with others",
                UserWarning,
                stacklevel=3,
            )

    def _finish(self, locals_: list[LocalFit], support: Support, rng: np.random.Generator) -> Any:
        """Reduce fits that are here already."""
        return self._publish(reduce_fits(locals_, support, self._recipe(), rng), locals_, support)

    def _publish(self, done: ReductionResult, fits: Sequence[LocalFit], support: Support) -> Any:
        """Set what a fitted estimator shows."""
        self._warn(done, fits)
        self.locals_, self.support_, self.kept_ = list(fits), support, done.kept
        self.objective_, self.divergences_ = np.array(done.trace), done.divergence
        self.misfits_, self.strain_ = done.misfit, done.strain
        return self._show(done.mixture)

    def _warn(self, done: ReductionResult, fits: Sequence[LocalFit]) -> None:
        """Say which fits were left out, and whether the others agree."""
        dropped = np.flatnonzero(~done.kept).tolist()
        if dropped:
            warnings.warn(
                f"the fits of machines {dropped} stand far from the others and were left out; "
                "refit them from the result, or pass screen=False",
                UserWarning,
                stacklevel=4,
            )
        rows = np.array([fit.rows for fit in fits])[done.kept]
        if are_incompatible(
            done.misfit[done.kept], rows, count_mixture_parameters(done.mixture), done.strain
        ):
            warnings.warn(
                f"the local fits are incompatible: the result stands {done.strain:.2f} times as "
                "far from them as the middle one of them does; give all machines one start by "
                "init=, add refine_rounds, or choose reduction='middle'",
                UserWarning,
                stacklevel=4,
            )

    def unreduced_log_density(self, X: Any, y: Any) -> Array:
        """Give the log density of the average of all local fits, which has M * K experts, [N]."""
        x_ND, y, _ = self._seen(X, y)
        rows = np.array([local.rows for local in self.locals_])
        parts = [log_density(local.mixture, x_ND, y) for local in self.locals_]
        return log_sum_exp(np.stack(parts, 1) + np.log(rows / rows.sum()))
