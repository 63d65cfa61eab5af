"""The two distributed estimators.

Letters: M machines, K experts, G classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets

from moiety.estimators.distributed import DistributedEstimator
from moiety.estimators.exchange import NO_TRAFFIC, ExchangeTraffic, agree_on_classes
from moiety.estimators.machines import OpenedShards
from moiety.estimators.single import (
    CategoricalResponse,
    MixtureOfExpertsClassifier,
    MixtureOfExpertsRegressor,
    NumberResponse,
)
from moiety.mixtures.model import Mixture


class DistributedMixtureOfExpertsRegressor(NumberResponse, DistributedEstimator):
    """Mixtures of regressions fitted on many machines and reduced to one by optimal transport.

    Args:
        n_experts: the number of experts of every local fit and of the result.
        family: ``"normal"``; ``"student"`` where some responses are wild; ``"poisson"`` or
            ``"negative_binomial"`` for counts, and ``"gamma"`` for positive numbers, with the
            logarithm of the mean linear; ``"binomial"`` for successes in ``trials``, with the log
            odds linear. All but the normal have the cost ``"kl"`` alone.
        trials: of every row, for ``family="binomial"``.
        cost: ``"kl"``, ``"reverse_kl"``, ``"w2"``, or ``"kl_reference"``, which drops the spread of
            the local means from the variance as the published code does.
        gate: ``"information"``, ``"average"``, ``"projection"``, or ``"posterior"``, which asks the
            machines for responses as well.
        refine_rounds: pooled EM steps after the reduction, each one more exchange. ``"auto"`` makes
            none where the local fits differ no more than their rows explain, and else as many as
            gain, at most 50.
        refine_tol: the gain in a row's mean log-likelihood at which automatic rounds end.
        reduction: ``"transport"``, or the baselines ``"middle"`` and ``"average"``.
        screen: leave out local fits that stand far from the others.
        n_support: support rows in all; by default 50 per column, at least 2,000.
        support: ``"rows"`` of the machines, ``"normal"`` for draws from normals with the moments of
            their covariates, or covariates [S, d] that are no secret.
        keep_support: keep the support when the fit is saved or pickled.
        target: the response's column where rows have names.
        n_init: the number of starts that compete on each machine.
        max_iter: the most EM steps of a climb on a machine; ``n_iter_`` counts those of the
            competition of starts too.
        tol: EM stops when a row's mean log-likelihood gains at most this per step.
        ridge: penalty per row on the gate's slopes.
        variance_floor: the least variance of an expert, as a part of the variance of y, measured
            between the quartiles where that is less.
        slope_limit: beyond it experts' slopes, in standard deviations of y per one of a covariate,
            are drawn back as by a normal prior of spread 1; it holds what collinear columns or a
            few rows leave open. ``float("inf")`` for none.
        algorithm: ``"em"``, or ``"published"``, the published code's EM: no weights, no ridge, a
            stop at a relative gain of 1e-6, all rows in memory; for comparison.
        init: ``"mixed"``, ``"kmeans"``, ``"random"``, or a fitted mixture from which all start.
        random_state: seed; every machine has its own stream.
        n_jobs: machines worked on at once, by joblib's back end.
        gate_columns: covariates that the gate uses, by names or places; [] for a constant gate.
        expert_columns: covariates that the experts use, likewise.
        offset: a covariate whose coefficient is 1 in every expert; not of negative binomial and
            binomial experts.
        expert_ridge: half of it times each squared slope of an expert is taken from a row's
            log-likelihood, in standardised units.
        expert_lasso: it times each absolute slope of an expert is taken from a row's
            log-likelihood: in local fits and refining rounds some become exactly 0, but a
            reduction without rounds mixes them.
        gate_lasso: it times the norm of the gate's coefficients of a covariate, likewise.

    Attributes:
        ledger_: rounds, bytes up and down, and seconds.
        locals_: what the machines sent; ``kept_`` [M] tells which fits were used.
        objective_: the transport objective at every step; ``divergences_`` [M] from the result.
        misfits_: 2 * rows * squared Hellinger distance of each fit from the result, [M]: near half
            the number of parameters where machines have alike rows.
        strain_: above 1 the result stands farther from the fits than the middle one of them.
        incompatible_: whether the fits differ by more than their rows explain.
        n_refine_rounds_: refining rounds made.
        floored_: shards on which a variance ends at the floor, [M]; ``floored_experts_`` [K], the
            experts that refining rounds left there.
    """

    alone = MixtureOfExpertsRegressor

    def __init__(  # noqa: PLR0913 - scikit-learn wants every choice here
        self, n_experts: int = 3, *, family: str = "normal", trials: int = 1, cost: str = "kl",
        gate: str = "information", refine_rounds: Any = "auto", refine_tol: float = 1e-3,
        reduction: str = "transport", screen: bool = True, n_support: int | None = None,
        support: Any = "rows", keep_support: bool = False, target: Any = "y", n_init: int = 10,
        max_iter: int = 500, tol: float = 1e-8, ridge: float = 1e-7, variance_floor: float = 1e-6,
        slope_limit: float = 10.0, algorithm: str = "em", init: Any = "mixed",
        random_state: Any = None, n_jobs: int | None = None, gate_columns: Any = None,
        expert_columns: Any = None, offset: Any = None, expert_ridge: float = 0.0,
        expert_lasso: float = 0.0, gate_lasso: float = 0.0,
    ) -> None:  # fmt: skip
        self.n_experts, self.family, self.trials, self.cost = n_experts, family, trials, cost
        self.gate, self.refine_rounds, self.refine_tol = gate, refine_rounds, refine_tol
        self.reduction, self.screen, self.n_support = reduction, screen, n_support
        self.support, self.keep_support, self.target = support, keep_support, target
        self.n_init, self.max_iter, self.tol, self.ridge = n_init, max_iter, tol, ridge
        self.variance_floor, self.slope_limit = variance_floor, slope_limit
        self.algorithm, self.init, self.random_state = algorithm, init, random_state
        self.n_jobs, self.gate_columns, self.expert_columns = n_jobs, gate_columns, expert_columns
        self.offset, self.expert_ridge, self.expert_lasso = offset, expert_ridge, expert_lasso
        self.gate_lasso = gate_lasso


class DistributedMixtureOfExpertsClassifier(CategoricalResponse, DistributedEstimator):
    """Mixtures of multinomial logits fitted on many machines and reduced to one by transport.

    A class may be missing on a machine. The classes are agreed on before the fits: give them, or
    the shards are read once more for them.

    Args:
        n_experts: the number of experts of every local fit and of the result.
        classes: all classes; by default those found on the shards.
        cost: ``"kl"``.
        gate: ``"information"``, ``"average"``, ``"projection"``, or ``"posterior"``, which asks the
            machines for responses as well.
        refine_rounds: pooled EM steps after the reduction, each one more exchange. ``"auto"`` makes
            none where the local fits differ no more than their rows explain, and else as many as
            gain, at most 50.
        refine_tol: the gain in a row's mean log-likelihood at which automatic rounds end.
        reduction: ``"transport"``, or the baselines ``"middle"`` and ``"average"``.
        screen: leave out local fits that stand far from the others.
        n_support: support rows in all; by default 50 per column, at least 2,000.
        support: ``"rows"`` of the machines, ``"normal"`` for draws from normals with the moments of
            their covariates, or covariates [S, d] that are no secret.
        keep_support: keep the support when the fit is saved or pickled.
        target: the response's column where rows have names.
        n_init: the number of starts that compete on each machine.
        max_iter: the most EM steps of a climb on a machine; ``n_iter_`` counts those of the
            competition of starts too.
        tol: EM stops when a row's mean log-likelihood gains at most this per step.
        ridge: penalty per row on the gate's slopes and the experts' weights.
        init: ``"mixed"``, ``"kmeans"``, ``"random"``, or a fitted mixture from which all start.
        random_state: seed; every machine has its own stream.
        n_jobs: machines worked on at once, by joblib's back end.
        gate_columns: covariates that the gate uses, by names or places; [] for a constant gate.
        expert_columns: covariates that the experts use, likewise.
        expert_lasso: it times each absolute slope of an expert is taken from a row's
            log-likelihood: in local fits and refining rounds some become exactly 0, but a
            reduction without rounds mixes them.
        gate_lasso: it times the norm of the gate's coefficients of a covariate, likewise.

    Attributes:
        classes_: the classes, [G].
        ledger_: rounds, bytes up and down, and seconds.
        locals_: what the machines sent; ``kept_`` [M] tells which fits were used.
        objective_: the transport objective at every step; ``divergences_`` [M] from the result.
        misfits_: 2 * rows * squared Hellinger distance of each fit from the result, [M]: near half
            the number of parameters where machines have alike rows.
        strain_: above 1 the result stands farther from the fits than the middle one of them.
        incompatible_: whether the fits differ by more than their rows explain.
        n_refine_rounds_: refining rounds made.
    """

    alone = MixtureOfExpertsClassifier
    variance_floor = 1e-6  # no variance here; the search asks for one
    slope_limit = float("inf")  # the ridge holds the weights of logits

    def __init__(  # noqa: PLR0913 - scikit-learn wants every choice here
        self, n_experts: int = 2, *, classes: Any = None, cost: str = "kl",
        gate: str = "information", refine_rounds: Any = "auto", refine_tol: float = 1e-3,
        reduction: str = "transport", screen: bool = True, n_support: int | None = None,
        support: Any = "rows", keep_support: bool = False, target: Any = "y", n_init: int = 10,
        max_iter: int = 500, tol: float = 1e-6, ridge: float = 1e-4, init: Any = "mixed",
        random_state: Any = None, n_jobs: int | None = None, gate_columns: Any = None,
        expert_columns: Any = None, expert_lasso: float = 0.0, gate_lasso: float = 0.0,
    ) -> None:  # fmt: skip
        self.n_experts, self.classes, self.cost, self.gate = n_experts, classes, cost, gate
        self.refine_rounds, self.refine_tol, self.reduction = refine_rounds, refine_tol, reduction
        self.screen, self.n_support, self.support = screen, n_support, support
        self.keep_support, self.target, self.n_init = keep_support, target, n_init
        self.max_iter, self.tol, self.ridge, self.init = max_iter, tol, ridge, init
        self.random_state, self.n_jobs, self.gate_columns = random_state, n_jobs, gate_columns
        self.expert_columns, self.expert_lasso = expert_columns, expert_lasso
        self.gate_lasso = gate_lasso

    def _agree(self, opened: OpenedShards) -> ExchangeTraffic:
        traffic = NO_TRAFFIC
        if self.classes is None:
            self.classes_, traffic = agree_on_classes(opened, self.n_jobs)
        else:
            self.classes_ = np.unique(np.asarray(self.classes))
        check_classification_targets(self.classes_)
        if len(self.classes_) < 2:
            raise ValueError(
                f"the shards have one class only, {self.classes_.tolist()}; a classifier needs two"
            )
        return traffic

    def _adopt(self, estimators: Sequence[Any], mixtures: Sequence[Mixture]) -> None:
        known = [one.classes_ for one in estimators if "classes_" in vars(one)]
        if not known and self.classes is None:
            raise ValueError("bare mixtures do not know their classes; name them by classes=")
        known = known or [np.unique(np.asarray(self.classes))]
        if any(list(classes) != list(known[0]) for classes in known):
            raise ValueError(
                f"the estimators know the classes {[list(c) for c in known]}; fit all "
                "with the same classes"
            )
        counts = sorted({mixture.experts.coef.shape[2] for mixture in mixtures})
        if counts != [len(known[0])]:
            raise ValueError(
                f"the mixtures have {counts} classes, but {len(known[0])} are named, "
                f"{list(known[0])}; fit all with the same classes"
            )
        self.classes_ = known[0]
