"""What the estimators have in common.

Letters: N rows, d covariates, D = d + 1 columns, K experts.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from moiety.estimators.columns import average_known, choose_freedom, share_parameters
from moiety.estimators.criteria import Criteria
from moiety.estimators.options import check_amount, check_sharing, check_spread, check_whole_number
from moiety.estimators.saved import read_estimator, write_estimator
from moiety.estimators.table import name_spreads
from moiety.mixtures.cost import CATEGORICAL_COSTS
from moiety.mixtures.counting import count_free_parameters
from moiety.mixtures.em import Prior
from moiety.mixtures.experts import GaussianExperts
from moiety.mixtures.fit import STARTS, ExpertsOfAnyKind, RowArrays, Search
from moiety.mixtures.law import Law
from moiety.mixtures.learn import Algorithm
from moiety.mixtures.linked import LinkedExperts
from moiety.mixtures.logit import Array
from moiety.mixtures.model import (
    Mixture,
    add_constant,
    gate_proba,
    log_density,
    responsibilities,
)
from moiety.mixtures.published import solve_published


def make_numpy_generator(random_state: Any) -> np.random.Generator:
    """Make a generator from a seed, a generator, or an old-style random state."""
    if isinstance(random_state, np.random.RandomState):
        random_state = int(random_state.randint(2**31))
    return np.random.default_rng(random_state)


MISSING: dict[str, Any] = {"refuse": True, "mean": "allow-nan"}  # what scikit-learn is to let pass
OF_EM = ("gate_columns", "expert_columns", "offset", "noise", "expert_ridge", "expert_lasso",
         "gate_lasso", "shared_columns", "shared_spread")  # fmt: skip
ALGORITHMS: dict[str, Algorithm | None] = {"em": None, "published": solve_published}


class MixtureEstimator(Criteria, BaseEstimator):
    """The part of an estimator that does not depend on the kind of response."""

    n_experts: int
    n_init: int
    max_iter: int
    tol: float
    ridge: float
    variance_floor: float
    slope_limit: float
    algorithm: str = "em"
    gate_columns: Any = None
    expert_columns: Any = None
    offset: Any = None
    expert_ridge: float = 0.0
    expert_lasso: float = 0.0
    gate_lasso: float = 0.0
    noise: Any = None
    shared_columns: Any = None
    shared_spread: bool = False
    missing: str = "refuse"
    init: Any
    random_state: Any
    n_jobs: int | None
    mixture_: Mixture
    fill_: Array
    n_features_in_: int

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "mean"
        return tags

    def _classes(self) -> int:
        """Give the number of classes; 0 where the response is a number."""
        return 0

    def _costs(self) -> Iterable[str]:
        """Name the costs that these experts have."""
        return CATEGORICAL_COSTS

    def _law(self) -> Law | None:
        """Give the law of responses that are neither normal nor classes."""
        return None

    def _encoded(self, y: Any) -> Array:
        """Turn a response into what the experts see."""
        raise NotImplementedError

    def _check_search(self) -> None:
        """Refuse options of a search that cannot be meant."""
        if isinstance(self.init, str) and self.init not in STARTS:
            raise ValueError(
                f"init={self.init!r} is not known; choose from {sorted(STARTS)}, labels, "
                "or a fitted mixture"
            )
        if self.algorithm not in ALGORITHMS:
            raise ValueError(
                f"algorithm={self.algorithm!r} is not known; choose from {sorted(ALGORITHMS)}"
            )
        if self.missing not in MISSING:
            raise ValueError(f"missing={self.missing!r} is not known; choose from {list(MISSING)}")
        for name in ("n_experts", "n_init", "max_iter"):
            check_whole_number(self, name, 1)
        for name in (
            "tol", "ridge", "variance_floor", "expert_ridge", "expert_lasso", "gate_lasso",
        ):  # fmt: skip
            check_amount(self, name)
        check_spread(self, "slope_limit")
        check_sharing(self)
        plain = all(getattr(self, name) in (None, 0) for name in OF_EM)
        if self.algorithm != "em" and not plain:
            raise ValueError(f"the published algorithm knows none of {list(OF_EM)}; choose 'em'")

    def _search(self) -> Search:
        self._check_search()
        start = self.init if isinstance(self.init, str) else "mixed"
        return Search(
            int(self.n_experts),
            classes=self._classes(),
            law=self._law(),
            num_starts=int(self.n_init),
            start=start,
            tol=self.tol,
            max_iter=int(self.max_iter),
            prior=self._prior(),
        )

    def _prior(self) -> Prior:
        names = getattr(self, "feature_names_in_", ())
        count, shared = vars(self).get("n_features_in_", 0), self.shared_columns
        free = choose_freedom(self.gate_columns, self.expert_columns, self.offset, count, names)
        return Prior(
            self.ridge,
            self.variance_floor,
            float(self.slope_limit) if shared is None else float("inf"),
            self.expert_ridge,
            self.expert_lasso,
            self.gate_lasso,
            share_parameters(free, shared, count, names, one_spread=bool(self.shared_spread)),
        )

    def _rows(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> RowArrays:
        X, y = validate_data(
            self,
            X,
            y,
            reset=reset,
            dtype=np.float64,
            ensure_min_samples=2 if reset else 1,
            y_numeric=not self._classifies(),
            ensure_all_finite=MISSING.get(self.missing, True),
        )
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if self.missing == "mean" and reset:
            self.fill_ = average_known(X, weights)
        return self._fill(X), y, weights

    def _fill(self, X: Array) -> Array:
        """Put the means of the fit where covariates are missing, if that is asked."""
        return np.where(np.isnan(X), self.fill_, X) if self.missing == "mean" else X

    def _classifies(self) -> bool:
        return False

    def _learn_classes(self, y: Any) -> None:
        """Take note of the classes, where there are any."""

    def _blank_experts(self, columns: int) -> ExpertsOfAnyKind:
        """Make experts of this estimator's kind that know nothing."""
        return Search(1, classes=self._classes(), law=self._law()).make_blank(columns)

    def _known_start(self) -> Mixture | None:
        """Give the mixture that the user starts from, if any."""
        start = self.init
        if isinstance(start, MixtureEstimator):
            check_is_fitted(start)
            start = start.mixture_
        if not isinstance(start, Mixture):
            return None
        if start.num_experts != self.n_experts:
            raise ValueError(
                f"init has {start.num_experts} experts, but n_experts={self.n_experts}; "
                "give as many"
            )
        return start

    def _show(self, mixture: Mixture) -> Any:
        """Set what a fitted mixture shows."""
        self.mixture_, self.n_experts_ = mixture, mixture.num_experts
        self.n_parameters_ = count_free_parameters(mixture, self._prior())
        self.gate_coef_, self.gate_intercept_ = mixture.gate[1:].T, mixture.gate[0]
        self.coef_ = np.moveaxis(mixture.experts.coef[1:], 0, -1)
        self.intercept_ = mixture.experts.coef[0]
        for name in ("variances_", "spreads_", "noise_share_"):  # an earlier fit may have had them
            vars(self).pop(name, None)
        if isinstance(mixture.experts, GaussianExperts):
            self.variances_ = mixture.experts.variances
        if isinstance(mixture.experts, LinkedExperts):
            self.spreads_ = name_spreads(mixture.experts)
        if mixture.noise is not None:
            self.noise_share_ = mixture.noise.share
        return self

    def save(self, path: str | Path) -> None:
        """Write the fitted estimator into a folder, as safetensors and JSON; no row goes along."""
        check_is_fitted(self)
        write_estimator(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Any:
        """Read an estimator that ``save`` wrote; no code is run, and nothing is unpickled."""
        return read_estimator(path, [cls])

    def _design(self, X: Any) -> Array:
        check_is_fitted(self)
        finite = MISSING.get(self.missing, True)
        known: Any = validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite=finite)
        return add_constant(self._fill(np.asarray(known)))

    def _seen(self, X: Any, y: Any, sample_weight: Any = None) -> RowArrays:
        check_is_fitted(self)
        X, y, weights = self._rows(X, y, sample_weight, reset=False)
        return add_constant(X), self._encoded(y), weights

    def gate_proba(self, X: Any) -> Array:
        """Give the probability of each expert before y is seen, [N, K]."""
        return gate_proba(self.mixture_, self._design(X))

    def responsibilities(self, X: Any, y: Any) -> Array:
        """Give the probability of each expert once y is seen, [N, K]."""
        x_ND, y, _ = self._seen(X, y)
        return responsibilities(self.mixture_, x_ND, y)

    def log_density(self, X: Any, y: Any) -> Array:
        """Give log f(y | x), [N]."""
        x_ND, y, _ = self._seen(X, y)
        return log_density(self.mixture_, x_ND, y)

    def log_likelihood(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Give the weighted sum of log f(y | x)."""
        x_ND, y, weights = self._seen(X, y, sample_weight)
        return float(weights @ log_density(self.mixture_, x_ND, y))
