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
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from moiety.estimators.base import MixtureEstimator, generator
from moiety.estimators.merging import (
    locals_of,
    mixtures_of,
    names_of,
    ready_support,
    shares_of,
)
from moiety.estimators.options import whole
from moiety.estimators.server import (
    Ledger,
    common_scale,
    reduced,
    refine,
    sums_bytes,
    support_of,
    unreduced_log_density,
)
from moiety.estimators.shards import Shard, agreed_columns, open_shard
from moiety.estimators.workers import Sent, Task, fit_shard, tally_shard
from moiety.ops.mixture.em import Prior, Sums
from moiety.ops.mixture.fit import STARTS
from moiety.ops.mixture.logit import Array
from moiety.ops.mixture.model import Mixture, size
from moiety.ops.mixture.reduce import Recipe, Reduced
from moiety.ops.mixture.scale import Scale
from moiety.ops.mixture.scene import Local, Support
from moiety.ops.mixture.screen import incompatible


def side_by_side(n_jobs: int | None, jobs: Iterable[Any]) -> list[Any]:
    """Run jobs by joblib's back end, and give their results in order."""
    return list(Parallel(n_jobs=n_jobs)(jobs))


class Distributed(MixtureEstimator):
    """Local fits side by side, one exchange, a reduction, and as many refining rounds as asked."""

    cost: str
    gate: str
    refine_rounds: int
    reduction: str
    screen: bool
    n_support: int | None
    target: str

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
        opened = [open_shard(shard, at, self.target) for at, shard in enumerate(shards)]
        if not opened:
            raise ValueError("no shards; give one per machine")
        self._note_columns(opened)
        self._agree(opened)
        task = self._task(opened)
        streams = generator(self.random_state).spawn(len(opened) + 1)
        jobs = [
            delayed(fit_shard)(*each) for each in zip(opened, repeat(task), streams, strict=False)
        ]
        sent = side_by_side(self.n_jobs, jobs)
        self._report(sent)
        return self._reduce(sent, streams[-1], opened)

    def merge(self, estimators: Sequence[Any], weights: Any = None, *, support: Any) -> Any:
        """Reduce estimators that were fitted elsewhere.

        Args:
            estimators: fitted estimators or mixtures; their numbers of experts may differ.
            weights: the rows that each was fitted to; where not given, those that the fits know, or
                equal ones.
            support: covariates on which experts are compared, [S, d]; public or simulated ones do.
        """
        mixtures = mixtures_of(estimators, classifies=self._classifies())
        share, names = shares_of(estimators, weights), names_of(estimators, support)
        x = ready_support(mixtures, support)
        self._adopt(estimators)
        self.n_features_in_ = x.shape[1]
        vars(self).pop("feature_names_in_", None)
        if names is not None:
            self.feature_names_in_ = np.array(names, dtype=object)
        locals_ = locals_of(estimators, mixtures, share, informed=weights is None)
        return self._finish(locals_, Support(x, np.ones(len(x))), generator(self.random_state))

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
        return other._finish(self.locals_, self.support_, generator(self.random_state))  # noqa: SLF001

    def _check_options(self) -> None:
        """Refuse what cannot be meant, before anything is read."""
        self._check_search()
        whole(self, "refine_rounds", 0)
        if self.n_support is not None:
            whole(self, "n_support", 1)
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

    def _adopt(self, estimators: Sequence[Any]) -> None:
        """Take over what fitted estimators agree on."""

    def _agree(self, opened: list[Shard]) -> None:
        """Settle what all machines must know before they fit."""

    def _note_columns(self, opened: list[Shard]) -> None:
        columns = agreed_columns(opened)
        if isinstance(columns, int):
            self.n_features_in_ = columns
        else:
            self.n_features_in_ = len(columns)
            self.feature_names_in_ = np.array(columns, dtype=object)

    def _task(self, opened: list[Shard]) -> Task:
        columns = self.n_features_in_ + 1
        wanted = self.n_support or max(50 * columns, 2000)
        each = -(-wanted // len(opened))
        return Task(
            self._search(),
            getattr(self, "classes_", None),
            each,
            self.gate == "posterior",
            self._known_start(),
        )

    def _report(self, sent: list[Sent]) -> None:
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

    def _reduce(self, sent: list[Sent], rng: np.random.Generator, opened: list[Shard]) -> Any:
        locals_ = [one.local for one in sent]
        support = support_of(sent)
        began, began_cpu = time.perf_counter(), time.thread_time()
        self._finish(locals_, support, rng)
        seconds, cpu_s = time.perf_counter() - began, time.thread_time() - began_cpu
        self.local_log_likelihoods_ = np.array([one.log_likelihood for one in sent])
        self.n_iter_ = max(one.iterations for one in sent)
        self.converged_ = all(one.converged for one in sent)
        up, down = sum(one.sent_bytes for one in sent), 8 * size(self.mixture_) * len(sent)
        if self.refine_rounds:
            more = self._refine(opened, support)
            up, down = up + more, down * (1 + self.refine_rounds)
        self.ledger_ = Ledger(
            1 + self.refine_rounds,
            up,
            down,
            sum(one.support_bytes for one in sent),
            max(one.seconds for one in sent),
            seconds,
            max(one.cpu_s for one in sent),
            cpu_s,
        )
        return self

    def _finish(self, locals_: list[Local], support: Support, rng: np.random.Generator) -> Any:
        """Reduce, and set what a fitted estimator shows."""
        recipe = Recipe(self.n_experts, self.cost, self.gate, screen=self.screen)
        done = reduced(self.reduction, locals_, support, recipe, rng)
        self._warn(done, locals_)
        self.locals_, self.support_, self.kept_ = locals_, support, done.kept
        self.objective_, self.divergences_ = np.array(done.trace), done.divergence
        self.misfits_, self.strain_ = done.misfit, done.strain
        return self._show(done.mixture)

    def _warn(self, done: Reduced, locals_: list[Local]) -> None:
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
        if incompatible(done.misfit[done.kept], rows, size(done.mixture), done.strain):
            warnings.warn(
                f"the local fits are incompatible: the result stands {done.strain:.2f} times as "
                "far from them as the middle one of them does; give all machines one start by "
                "init=, add refine_rounds, or choose reduction='middle'",
                UserWarning,
                stacklevel=5,
            )

    def _refine(self, opened: list[Shard], support: Support) -> int:
        """Make pooled EM steps, and count the bytes that machines sent for them."""
        scale, counted = common_scale(self.mixture_, support), []
        classes = getattr(self, "classes_", None)

        def ask(mixture: Mixture, scale: Scale) -> list[Sums]:
            jobs = [delayed(tally_shard)(shard, classes, mixture, scale) for shard in opened]
            sums = side_by_side(self.n_jobs, jobs)
            counted.append(sum(map(sums_bytes, sums)))
            return sums

        prior = Prior(self.ridge, self.variance_floor)
        rounds = self.refine_rounds
        self._show(refine(self.mixture_, scale, ask, rounds, prior=prior, x=support.x))
        return sum(counted)

    def unreduced_log_density(self, X: Any, y: Any) -> Array:
        """Give the log density of the average of all local fits, which has M * K experts, [N]."""
        x_ND, y, _ = self._seen(X, y)
        return unreduced_log_density(self.locals_, x_ND, y)
