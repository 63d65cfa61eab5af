"""Mixtures of experts fitted on many machines and reduced to one.

Letters: M machines, K experts.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

import numpy as np
from joblib import delayed
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from moiety.estimators.assess import Assessment, assess_shards
from moiety.estimators.base import ALGORITHMS, MixtureEstimator, make_numpy_generator
from moiety.estimators.exchange import (
    NO_TRAFFIC,
    ExchangeTraffic,
    Machines,
    OpenedShards,
    refine_on_machines,
    run_shard_jobs,
)
from moiety.estimators.merging import (
    agree_on_names,
    check_merge_support,
    choose_fit_weights,
    collect_local_fits,
    collect_mixtures,
)
from moiety.estimators.opening import LazyShard, ShardColumns, open_shard
from moiety.estimators.options import check_whole_number
from moiety.estimators.server import (
    ExchangeLedger,
    balance_weights,
    check_reduction,
    pool_support,
    reduce_fits,
    unreduced_log_density,
)
from moiety.estimators.shards import Shard, agree_on_columns
from moiety.estimators.workers import ShardReply, ShardTask, fit_shard
from moiety.mixtures.em import Prior
from moiety.mixtures.fit import STARTS
from moiety.mixtures.inputs import LocalFit, Support
from moiety.mixtures.logit import Array
from moiety.mixtures.model import Mixture, count_mixture_parameters
from moiety.mixtures.reduce import ReductionConfig, ReductionResult
from moiety.mixtures.screen import are_incompatible


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
        task = self._task(len(opened))
        streams = make_numpy_generator(self.random_state).spawn(len(opened) + 1)
        jobs = [
            delayed(fit_shard)(*each) for each in zip(opened, repeat(task), streams, strict=False)
        ]
        sent, factor = balance_weights(run_shard_jobs(self.n_jobs, jobs))
        self._note_columns([one.columns for one in sent])
        self._report(sent)
        return self._reduce(sent, factor, streams[-1], opened, agreement)

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

    def _task(self, machines: int) -> ShardTask:
        return ShardTask(
            self._search(),
            getattr(self, "classes_", None),
            self.n_support,
            self.gate == "posterior",
            self._known_start(),
            machines,
            ALGORITHMS[self.algorithm],
        )

    def _report(self, sent: list[ShardReply]) -> None:
        """Say what went wrong where."""
        for at, one in enumerate(sent):
            if one.local.mixture.num_experts < self.n_experts:
                warnings.warn(
                    f"shard {at} has {one.local.rows:g} rows, too few for n_experts="
                    f"{self.n_experts}; it fitted {one.local.mixture.num_experts}",
                    UserWarning,
                    stacklevel=3,
                )
        constant = np.array([one.constant for one in sent])
        for column in np.flatnonzero(constant.any(0) & ~constant.all(0)):
            where = np.flatnonzero(constant[:, column]).tolist()
            warnings.warn(
                f"covariate {column} is constant on shards {where}: they know nothing of it, and "
                "their experts take its coefficient as 0; pool them with others",
                UserWarning,
                stacklevel=3,
            )

    def _reduce(
        self,
        sent: list[ShardReply],
        factor: float,
        rng: np.random.Generator,
        opened: OpenedShards,
        agreement: ExchangeTraffic,
    ) -> Any:
        support = pool_support(sent)
        began, began_cpu = time.perf_counter(), time.thread_time()
        self._finish([one.local for one in sent], support, rng)
        seconds, cpu_s = time.perf_counter() - began, time.thread_time() - began_cpu
        self.local_log_likelihoods_ = np.array([one.log_likelihood for one in sent])
        self.n_iter_ = max(one.iterations for one in sent)
        self.converged_ = all(one.converged for one in sent)
        more, refine_s = self._refine(opened, factor)
        down = 8 * count_mixture_parameters(self.mixture_) * len(sent) * (1 + self.refine_rounds)
        self.ledger_ = ExchangeLedger(
            agreement.rounds + 1 + self.refine_rounds,
            agreement.up_bytes + sum(one.sent_bytes for one in sent) + more,
            agreement.down_bytes + down,
            sum(one.support_bytes for one in sent),
            tuple(one.seconds for one in sent),
            tuple(one.cpu_s for one in sent),
            seconds,
            cpu_s,
            refine_s,
        )
        return self

    def _finish(self, locals_: list[LocalFit], support: Support, rng: np.random.Generator) -> Any:
        """Reduce, and set what a fitted estimator shows."""
        recipe = ReductionConfig(self.n_experts, self.cost, self.gate, screen=self.screen)
        done = reduce_fits(self.reduction, locals_, support, recipe, rng)
        self._warn(done, locals_)
        self.locals_, self.support_, self.kept_ = locals_, support, done.kept
        self.objective_, self.divergences_ = np.array(done.trace), done.divergence
        self.misfits_, self.strain_ = done.misfit, done.strain
        return self._show(done.mixture)

    def _warn(self, done: ReductionResult, locals_: list[LocalFit]) -> None:
        """Say which fits were left out, and whether the others agree."""
        dropped = np.flatnonzero(~done.kept).tolist()
        if dropped:
            warnings.warn(
                f"the fits of machines {dropped} stand far from the others and were left out; "
                "refit them from the result, or pass screen=False",
                UserWarning,
                stacklevel=5,
            )
        rows = np.array([local.rows for local in locals_])[done.kept]
        if are_incompatible(
            done.misfit[done.kept], rows, count_mixture_parameters(done.mixture), done.strain
        ):
            warnings.warn(
                f"the local fits are incompatible: the result stands {done.strain:.2f} times as "
                "far from them as the middle one of them does; give all machines one start by "
                "init=, add refine_rounds, or choose reduction='middle'",
                UserWarning,
                stacklevel=5,
            )

    def _refine(self, opened: OpenedShards, factor: float) -> tuple[int, float]:
        """Make pooled EM steps; give the bytes that machines sent for them, and the seconds."""
        if not self.refine_rounds:
            return 0, 0.0
        machines = Machines(opened, getattr(self, "classes_", None), factor, self.n_jobs)
        prior, rounds = Prior(self.ridge, self.variance_floor), self.refine_rounds
        moved, sent_bytes, seconds = refine_on_machines(
            self.mixture_, self.support_, machines, prior=prior, rounds=rounds
        )
        self._show(moved)
        return sent_bytes, seconds

    def unreduced_log_density(self, X: Any, y: Any) -> Array:
        """Give the log density of the average of all local fits, which has M * K experts, [N]."""
        x_ND, y, _ = self._seen(X, y)
        return unreduced_log_density(self.locals_, x_ND, y)
