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

from moiety.estimators.criteria import Criteria
from moiety.estimators.options import check_amount, check_spread, check_whole_number
from moiety.estimators.saved import read_estimator, write_estimator
from moiety.estimators.table import name_spreads
from moiety.mixtures.cost import CATEGORICAL_COSTS
from moiety.mixtures.em import Prior
from moiety.mixtures.experts import GaussianExperts
from moiety.mixtures.fit import STARTS, RowArrays, Search
from moiety.mixtures.law import Law
from moiety.mixtures.learn import Algorithm
from moiety.mixtures.linked import LinkedExperts
from moiety.mixtures.logit import Array
from moiety.mixtures.model import (
    Mixture,
    add_constant,
    count_mixture_parameters,
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
    init: Any
    random_state: Any
    n_jobs: int | None
    mixture_: Mixture

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
        for name in ("n_experts", "n_init", "max_iter"):
            check_whole_number(self, name, 1)
        for name in ("tol", "ridge", "variance_floor"):
            check_amount(self, name)
        check_spread(self, "slope_limit")

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
        return Prior(self.ridge, self.variance_floor, float(self.slope_limit))

    def _rows(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> RowArrays:
        X, y = validate_data(
            self,
            X,
            y,
            reset=reset,
            dtype=np.float64,
            ensure_min_samples=2 if reset else 1,
            y_numeric=not self._classifies(),
        )
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        return X, y, weights

    def _classifies(self) -> bool:
        return False

    def _learn_classes(self, y: Any) -> None:
        """Take note of the classes, where there are any."""

    def _known_start(self) -> Mixture | None:
        """Give the mixture that the user starts from, if any."""
        if isinstance(self.init, MixtureEstimator):
            check_is_fitted(self.init)
            return self.init.mixture_
        return self.init if isinstance(self.init, Mixture) else None

    def _show(self, mixture: Mixture) -> Any:
        """Set what a fitted mixture shows."""
        self.mixture_, self.n_experts_ = mixture, mixture.num_experts
        self.n_parameters_ = count_mixture_parameters(mixture)
        self.gate_coef_, self.gate_intercept_ = mixture.gate[1:].T, mixture.gate[0]
        self.coef_ = np.moveaxis(mixture.experts.coef[1:], 0, -1)
        self.intercept_ = mixture.experts.coef[0]
        if isinstance(mixture.experts, GaussianExperts):
            self.variances_ = mixture.experts.variances
        if isinstance(mixture.experts, LinkedExperts):
            self.spreads_ = name_spreads(mixture.experts)
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
        return add_constant(np.asarray(validate_data(self, X, reset=False, dtype=np.float64)))

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
