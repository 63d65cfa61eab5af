"""Mixtures of experts on one machine.

Letters: N rows, d covariates, K experts, G classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets

from moiety.estimators.base import MixtureEstimator
from moiety.estimators.options import check_whole_number
from moiety.estimators.predictive import LawPredictive, NoisyPredictive, Predictive
from moiety.estimators.shards import is_missing_label
from moiety.estimators.single_base import SingleEstimator
from moiety.mixtures.categorical import CategoricalExperts
from moiety.mixtures.cost import GAUSSIAN_COSTS, find_law_costs
from moiety.mixtures.law import Law
from moiety.mixtures.laws import find_law
from moiety.mixtures.linked import LinkedExperts
from moiety.mixtures.logit import Array
from moiety.mixtures.model import Mixture, gate_proba


class NumberResponse(RegressorMixin, MixtureEstimator):
    """What a mixture of experts for numbers or counts predicts."""

    family: str
    trials: int

    def _law(self) -> Law | None:
        check_whole_number(self, "trials", 1)
        law = find_law(self.family, int(self.trials))
        if law is not None and self.algorithm != "em":
            raise ValueError("the published algorithm has normal experts only; choose 'em'")
        if law is not None and self.shared_spread and not law.spread_names:
            raise ValueError(
                f"family={self.family!r} has no spread that experts could share; leave out "
                "shared_spread"
            )
        return law

    def _costs(self) -> Iterable[str]:
        law = self._law()
        return GAUSSIAN_COSTS if law is None else find_law_costs(law)

    def _encoded(self, y: Any) -> Array:
        return np.asarray(y, dtype=np.float64)

    def predict_dist(self, X: Any) -> Predictive | LawPredictive | NoisyPredictive:
        """Give the whole predictive distribution of every row: density, quantiles, intervals."""
        x_ND, mixture = self._design(X), self.mixture_
        lines, gate = mixture.experts.lines(x_ND), gate_proba(mixture, x_ND)
        if isinstance(mixture.experts, LinkedExperts):
            law, spreads = mixture.experts.law, mixture.experts.spreads
            found = LawPredictive(gate, lines, spreads, law)
        else:
            found = Predictive(gate, lines, np.sqrt(mixture.experts.variances))
        return found if mixture.noise is None else NoisyPredictive(found, mixture.noise)

    def predict(self, X: Any, *, return_std: bool = False) -> Any:
        """Give the predictive means, [N], and if asked for the standard deviations beside."""
        found = self.predict_dist(X)
        return (found.mean(), np.sqrt(found.var())) if return_std else found.mean()


class CategoricalResponse(ClassifierMixin, MixtureEstimator):
    """What a mixture of multinomial logits predicts."""

    mixture_: Mixture[CategoricalExperts]
    classes_: Array

    def _classifies(self) -> bool:
        return True

    def _classes(self) -> int:
        return len(self.classes_)

    def _learn_classes(self, y: Any) -> None:
        if y.dtype.kind == "O" and any(map(is_missing_label, y)):
            raise ValueError("missing labels in y; drop these rows")
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y has one class only, {self.classes_.tolist()}; a classifier needs two"
            )

    def _encoded(self, y: Any) -> Array:
        places = np.searchsorted(self.classes_, y)
        places = np.minimum(places, len(self.classes_) - 1)
        strange = np.asarray(y)[self.classes_[places] != y]
        if len(strange):
            raise ValueError(
                f"class {strange[0]} is not among {self.classes_.tolist()}; name all "
                "classes when fitting"
            )
        return places.astype(np.float64)

    def predict_proba(self, X: Any) -> Array:
        """Give the class probabilities, [N, G]."""
        x_ND = self._design(X)
        probs = np.exp(self.mixture_.experts.lines(x_ND))
        return np.einsum("nk,nkg->ng", gate_proba(self.mixture_, x_ND), probs)

    def predict(self, X: Any) -> Array:
        """Give the likeliest classes, [N]."""
        likeliest = self.predict_proba(X).argmax(1)
        return self.classes_[likeliest]


class MixtureOfExpertsRegressor(NumberResponse, SingleEstimator):
    """Regressions of one family, linear ones by default, mixed by a softmax gate, fitted by EM.

    Args:
        n_experts: the number of experts.
        family: ``"normal"``; ``"student"`` where some responses are wild; ``"poisson"`` or
            ``"negative_binomial"`` for counts, and ``"gamma"`` for positive numbers, with the
            logarithm of the mean linear; ``"binomial"`` for successes in ``trials``, with the log
            odds linear. The limit of slopes is of the normal, the floor of numbers.
        trials: of every row, for ``family="binomial"``.
        n_init: the number of starts that compete.
        max_iter: the most EM steps of a climb; ``n_iter_`` counts those of the competition too.
        tol: EM stops when a row's mean log-likelihood gains at most this per step.
        ridge: penalty per row on the gate's slopes, on standardised covariates.
        variance_floor: the least variance of an expert, as a part of the variance of y, measured
            between the quartiles where that is less.
        slope_limit: beyond it experts' slopes, in standard deviations of y per one of a covariate,
            are drawn back as by a normal prior of spread 1; it holds what collinear columns or a
            few rows leave open. ``float("inf")`` for none.
        algorithm: ``"em"``, or ``"published"``, the published code's EM: no weights, no ridge, a
            stop at a relative gain of 1e-6, all rows in memory; for comparison.
        init: ``"mixed"``, ``"kmeans"``, ``"random"``, one label per row, or a fitted mixture.
        warm_start: start at the present solution where there is one.
        random_state: seed of the starts.
        n_jobs: threads over which the starts are spread.
        gate_columns: covariates that the gate uses, by names or places; [] for a constant gate.
        expert_columns: covariates that the experts use, likewise.
        offset: a covariate whose coefficient is 1 in every expert, and that the gate does not use
            unless it is named: the logarithm of an exposure, say.
        shared_columns: covariates of which all experts have one slope, by names or places; with
            some, ``slope_limit`` is not in force.
        shared_spread: all experts have one variance, or one of each spread of their family.
        noise: a share of rows that follow no expert, anywhere in a range, evenly: ``"range"`` of
            the responses, or (low, high).
        expert_ridge: half of it times each squared slope of an expert is taken from a row's
            log-likelihood, in standardised units.
        expert_lasso: it times each absolute slope, likewise: some become exactly 0, and are no
            longer counted. It takes the place of ``slope_limit``.
        gate_lasso: it times the norm of the gate's coefficients of a covariate, around their mean:
            some covariates leave the gate.
        missing: ``"refuse"`` missing covariates, or put the ``"mean"`` of the fit's rows there: a
            simple remedy, which weakens slopes, and of which errors and intervals know nothing.

    Attributes:
        mixture_: the fitted mixture as a value.
        coef_: slopes of the experts, [K, d]; ``intercept_`` [K]; ``variances_`` [K] of normal ones,
            ``spreads_`` of others: name -> [K]; ``noise_share_`` where noise was asked for.
        gate_coef_: slopes of the gate, [K, d], the last row 0; ``gate_intercept_`` [K].
        log_likelihoods_: the log-likelihood before every step, and at the end.
    """

    def __init__(  # noqa: PLR0913 - scikit-learn wants every choice here
        self, n_experts: int = 3, *, family: str = "normal", trials: int = 1, n_init: int = 10,
        max_iter: int = 500, tol: float = 1e-8, ridge: float = 1e-7, variance_floor: float = 1e-6,
        slope_limit: float = 10.0, algorithm: str = "em", init: Any = "mixed",
        warm_start: bool = False, random_state: Any = None, n_jobs: int | None = None,
        gate_columns: Any = None, expert_columns: Any = None, offset: Any = None,
        shared_columns: Any = None, shared_spread: bool = False, noise: Any = None,
        expert_ridge: float = 0.0, expert_lasso: float = 0.0, gate_lasso: float = 0.0,
        missing: str = "refuse",
    ) -> None:  # fmt: skip
        self.n_experts, self.family, self.trials, self.n_init = n_experts, family, trials, n_init
        self.max_iter, self.tol, self.ridge = max_iter, tol, ridge
        self.variance_floor, self.slope_limit = variance_floor, slope_limit
        self.algorithm, self.init, self.warm_start = algorithm, init, warm_start
        self.random_state, self.n_jobs, self.gate_columns = random_state, n_jobs, gate_columns
        self.expert_columns, self.offset = expert_columns, offset
        self.shared_columns, self.shared_spread, self.noise = shared_columns, shared_spread, noise
        self.expert_ridge, self.expert_lasso = expert_ridge, expert_lasso
        self.gate_lasso, self.missing = gate_lasso, missing


class MixtureOfExpertsClassifier(CategoricalResponse, SingleEstimator):
    """Multinomial logits, mixed by a softmax gate, fitted by EM.

    Args:
        n_experts: the number of experts.
        n_init: the number of starts that compete.
        max_iter: the most EM steps of a climb; ``n_iter_`` counts those of the competition too.
        tol: EM stops when a row's mean log-likelihood gains at most this per step.
        ridge: penalty per row on the gate's slopes and the experts' weights, on standardised
            covariates; it keeps separable classes finite.
        init: ``"mixed"``, ``"kmeans"``, ``"random"``, one label per row, or a fitted mixture.
        warm_start: start at the present solution where there is one.
        random_state: seed of the starts.
        n_jobs: threads over which the starts are spread.
        gate_columns: covariates that the gate uses, by names or places; [] for a constant gate.
        expert_columns: covariates that the experts use, likewise.
        expert_lasso: it times each absolute slope of an expert is taken from a row's
            log-likelihood, on standardised covariates: some become exactly 0.
        gate_lasso: it times the norm of the gate's coefficients of a covariate, around their mean:
            some covariates leave the gate.
        missing: ``"refuse"`` missing covariates, or put the ``"mean"`` of the fit's rows there: a
            simple remedy, which weakens slopes, and of which errors and intervals know nothing.

    Attributes:
        classes_: the classes, [G].
        mixture_: the fitted mixture as a value.
        coef_: weights of the experts, [K, G, d], the last class 0; ``intercept_`` [K, G].
        gate_coef_: slopes of the gate, [K, d], the last row 0; ``gate_intercept_`` [K].
    """

    variance_floor = 1e-6  # no variance here; the search asks for one
    slope_limit = float("inf")  # the ridge holds the weights of logits

    def __init__(  # noqa: PLR0913 - scikit-learn wants every choice here
        self, n_experts: int = 2, *, n_init: int = 10, max_iter: int = 500, tol: float = 1e-6,
        ridge: float = 1e-4, init: Any = "mixed", warm_start: bool = False,
        random_state: Any = None, n_jobs: int | None = None, gate_columns: Any = None,
        expert_columns: Any = None, expert_lasso: float = 0.0, gate_lasso: float = 0.0,
        missing: str = "refuse",
    ) -> None:  # fmt: skip
        self.n_experts, self.n_init, self.max_iter, self.tol = n_experts, n_init, max_iter, tol
        self.ridge, self.init, self.warm_start = ridge, init, warm_start
        self.random_state, self.n_jobs, self.gate_columns = random_state, n_jobs, gate_columns
        self.expert_columns, self.expert_lasso = expert_columns, expert_lasso
        self.gate_lasso, self.missing = gate_lasso, missing
