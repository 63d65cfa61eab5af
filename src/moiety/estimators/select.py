"""How many experts: fit several numbers side by side and compare criteria."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from joblib import Parallel, delayed
from sklearn.base import clone


@dataclass(frozen=True)
class Selection:
    """The best estimator, fitted, and the criterion of every number tried; lower is better."""

    best: Any
    criteria: dict[int, float]

    @property
    def n_experts(self) -> int:
        """Give the number chosen."""
        return min(self.criteria, key=lambda number: self.criteria[number])


def select_experts(
    estimator: Any,
    numbers: Iterable[int],
    X: Any,
    y: Any,
    *,
    criterion: str = "bic",
    n_jobs: int | None = None,
) -> Selection:
    """Fit an estimator with each number of experts and keep the best.

    Args:
        estimator: a mixture estimator; it is cloned.
        numbers: numbers of experts, such as ``range(1, 6)``.
        X: covariates.
        y: responses.
        criterion: ``"bic"``, ``"icl"`` or ``"aic"``.
        n_jobs: fits run at once.
    """
    if criterion not in ("bic", "icl", "aic"):
        raise ValueError(f"{criterion=} is not known; choose 'bic', 'icl' or 'aic'")
    numbers = list(numbers)
    if not numbers:
        raise ValueError("no numbers of experts; give some, such as range(1, 6)")
    tried = [_with(estimator, number) for number in numbers]
    fitted = list(Parallel(n_jobs=n_jobs)(delayed(_fit)(one, X, y) for one in tried))
    values = [float(getattr(one, criterion)(X, y)) for one in fitted]
    best = fitted[values.index(min(values))]
    return Selection(best, dict(zip(numbers, values, strict=True)))


def _with(estimator: Any, number: int) -> Any:
    fresh: Any = clone(estimator)
    return fresh.set_params(n_experts=number)


def _fit(estimator: Any, X: Any, y: Any) -> Any:
    return estimator.fit(X, y)
