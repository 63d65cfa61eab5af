"""Mixtures of experts fitted on many machines and reduced to one.

Letters: M machines, K experts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from moiety.estimators.assess import Assessment, assess_shards
from moiety.estimators.base import ALGORITHMS, make_numpy_generator
from moiety.estimators.columns import check_offset_varies
from moiety.estimators.diagnose import (
    warn_incompatible,
    warn_refined,
    warn_refined_floor,
    warn_shards,
)
from moiety.estimators.exchange import NO_TRAFFIC, ExchangeTraffic, Spent, make_exchange_ledger
from moiety.estimators.machines import OpenedShards, ShardEngine
from moiety.estimators.merging import check_support_rank
from moiety.estimators.method import (
    choose_mixture_form,
    make_fit_method,
    measure_server,
    play_fit,
    restore_refused,
)
from moiety.estimators.opening import LazyShard, ShardColumns, gather_shards, open_shard
from moiety.estimators.options import (
    check_amount,
    check_reduction,
    check_restrictions,
    check_support_choice,
    check_whole_number,
    names_columns,
)
from moiety.estimators.reducing import ReducingEstimator
from moiety.estimators.refining import Refining, play_refining
from moiety.estimators.saved import check_family
from moiety.estimators.shards import Shard, agree_on_columns
from moiety.estimators.standard_errors import warn_unidentified
from moiety.merge.transport import SentFits, read_fits, read_reduction
from moiety.mixtures.fit import STARTS
from moiety.mixtures.inputs import LocalFit, Support
from moiety.mixtures.model import count_mixture_parameters
from moiety.mixtures.worker import FitTask
from moiety.server.mixtures import JUDGEMENT
from moiety.solve.em import FIT


class DistributedEstimator(ReducingEstimator):
    """Local fits side by side, one exchange, a reduction, and as many refining rounds as asked."""

    refine_rounds: Any
    refine_tol: float
    n_support: int | None
    support: Any
    target: Any

    def fit(
        self, X: Iterable[Any], y: Any = None, *, shards: Any = None, sample_weight: Any = None
    ) -> Any:
        """Fit the shards: the rows of each machine by themselves.

        Args:
            X: one shard per machine: ``(X, y)`` or ``(X, y, weights)``, the path of a Parquet, CSV
                or npy file, a frame, or a partition with ``compute()`` or ``to_pandas()``. Rows
                with names hold the response in the column ``target``; an npy file in its last
                column. With ``shards``: the covariates of all rows, [N, d].
            y: with ``shards``, the responses of all rows, [N].
            shards: which machine has each row, [N] labels, for rows that are here but are to be
                fitted apart, as ``cross_val_score(..., params={"shards": labels})`` does.
            sample_weight: with ``shards``, weights, [N].
        """
        self._check_options()
        given = gather_shards(X, y, shards, sample_weight)
        opened = self._open(given)
        self._note_columns([shard.columns for shard in opened])
        agreement = self._agree(opened)
        streams = make_numpy_generator(self.random_state).spawn(len(opened) + 1)
        engine = ShardEngine(opened, getattr(self, "classes_", None), self.n_jobs)
        task, labelled = self._task(len(opened)), self.gate == "posterior"
        support, form = self._given_support(engine), choose_mixture_form(task.search)
        method = make_fit_method(task, self._recipe(), streams, support, labelled=labelled)
        (state, told), reduced = play_fit(method, engine)
        self._note_columns([work.columns for work in engine.exchanges[0].works])
        sent = read_fits(engine.exchanges[0].replies, form, support)
        self._report(sent.fits, engine)
        done = read_reduction(form.read(state.params), state.server[JUDGEMENT])
        done = restore_refused(done, {one.worker for one in told.refused})
        self._publish(done, sent.fits, sent.support)
        self.local_log_likelihoods_ = sent.log_likelihoods
        refined = self._refine(sent, engine) if self._needs_refining() else Spent()
        result = 8 * count_mixture_parameters(self.mixture_) * len(opened)
        self.ledger_ = make_exchange_ledger(agreement, engine.exchanges, result, reduced, refined)
        return self

    def _needs_refining(self) -> bool:
        """Tell whether rounds were asked for, or the fits are incompatible; else say so."""
        self.n_refine_rounds_, self.floored_experts_ = 0, np.zeros(self.n_experts_, bool)
        if self.refine_rounds == "auto":
            return self.incompatible_
        if self.incompatible_ and not self.refine_rounds:
            warn_incompatible(self.misfits_[self.kept_], "choose refine_rounds='auto'")
        return bool(self.refine_rounds)

    def _refine(self, sent: SentFits, engine: ShardEngine) -> Spent:
        """Make pooled EM steps, and say where they did not do."""
        rounds = None if self.refine_rounds == "auto" else int(self.refine_rounds)
        form = choose_mixture_form(self._search())
        how = Refining(self.kept_, rounds, self.refine_tol, self._prior(), form)
        play = partial(play_refining, self.mixture_, sent.factor, self.support_, engine, how)
        refined, spent = measure_server(engine, play)
        self.kept_, self.n_refine_rounds_ = refined.kept, refined.rounds
        self.floored_experts_ = refined.floored
        warn_refined_floor(refined)
        if rounds is None:
            warn_refined(refined, sent, self.refine_tol)
        self._show(refined.mixture)
        return spent

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
        columns = agree_on_columns([shard.columns for shard in opened])
        width = columns if isinstance(columns, int) or columns is None else len(columns)
        if width not in (None, self.n_features_in_):
            raise ValueError(
                f"the shards have {width} covariates, and the fit {self.n_features_in_}; give the "
                "same columns"
            )
        names = tuple(getattr(self, "feature_names_in_", ()))
        if names and isinstance(columns, tuple) and columns != names:
            raise ValueError(
                f"the shards have the columns {columns}, and the fit {names}; give the same "
                "columns in the same order"
            )
        classes = getattr(self, "classes_", None)
        centre = self.covariate_mean_, self.covariate_sd_
        prior = self._prior()
        judged = assess_shards(opened, classes, self.mixture_, centre, self.n_jobs, prior)
        warn_unidentified(judged.standard_errors, self._terms(), depth=3)
        return judged

    def _open(self, shards: Iterable[Any]) -> list[Shard | LazyShard]:
        opened = [open_shard(shard, at, self.target) for at, shard in enumerate(shards)]
        if not opened:
            raise ValueError("no shards; give one per machine")
        return opened

    def _check_options(self) -> None:
        """Refuse what cannot be meant, before anything is read."""
        self._check_search()
        if self.refine_rounds != "auto":
            check_whole_number(self, "refine_rounds", 0)
        check_amount(self, "refine_tol")
        check_reduction(self.cost, self.gate, self.reduction, self._costs())
        if self.n_support is not None:
            check_whole_number(self, "n_support", 1)
        check_support_choice(self.support, self.gate)
        check_restrictions(self)
        start = self._known_start()
        if start is None and not isinstance(self.init, str):
            raise ValueError(
                f"init={self.init!r} is of no use on shards; choose from {sorted(STARTS)}, or a "
                "fitted mixture"
            )

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
        if names_columns(self) and "n_features_in_" not in vars(self):
            raise ValueError(
                "these partitions tell their columns only when they are read; name no columns, or "
                "give shards that have them, such as frames or files"
            )
        start, solve = self._known_start(), ALGORITHMS[self.algorithm]
        if start is not None:
            check_family(start, self, "init")
        sends = self.support if isinstance(self.support, str) else "nothing"
        return FitTask(self._search(), self.n_support, machines, start, solve, sends=sends)

    def _given_support(self, engine: ShardEngine) -> Support | None:
        """Give the support that the user gave, once the columns are known."""
        if isinstance(self.support, str):
            return None
        x = np.asarray(self.support, dtype=np.float64)
        columns = agree_on_columns([shard.columns for shard in engine.opened])
        width = columns if isinstance(columns, int) else len(columns or x.T)
        if x.ndim != 2 or x.shape[1] != width or not np.isfinite(x).all():
            raise ValueError(
                f"support has the shape {x.shape} for {width} covariates; give finite rows [S, d], "
                "'rows' or 'normal'"
            )
        check_support_rank(x, np.ones(width, bool))
        remedy = "rows of the support; give rows in which it varies"
        check_offset_varies(self.offset, self._prior().free, x, remedy)
        return Support(x, np.ones(len(x)))

    def _report(self, fits: Sequence[LocalFit], engine: ShardEngine) -> None:
        """Note how the fits went, and say what went wrong where."""
        known = [engine.memory[at][FIT] for at in range(len(fits))]
        self.n_iter_ = max(reply.record.steps for reply in engine.exchanges[0].replies)
        self.converged_ = all(bool(one["converged"]) for one in known)
        self.floored_ = np.array([bool(one["floored"].any()) for one in known])
        warn_shards(fits, known, self.n_experts)
