"""How many experts: fit several numbers side by side and compare criteria."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from moiety.estimators.base import MixtureEstimator
from moiety.estimators.distributed import DistributedEstimator


@dataclass(frozen=True)
class Selection:
    """The best estimator, fitted, and the criterion of every number tried; lower is better.

    Numbers in ``degenerate`` ended with variances at the floor, so that their criterion says
    nothing; they are chosen only where all did.
    """

    best: Any
    criteria: dict[int, float]
    degenerate: tuple[int, ...] = ()

    @property
    def n_experts(self) -> int:
        """Give the number chosen."""
        return choose_number(self.criteria, self.degenerate)


def choose_number(criteria: dict[int, float], degenerate: Iterable[int]) -> int:
    """Choose the number of least criterion among those whose criterion has a meaning."""
    sound = [number for number in criteria if number not in set(degenerate)]
    return min(sound or criteria, key=lambda number: criteria[number])


def select_experts(  # noqa: PLR0913 - the habits of scikit-learn
    estimator: Any,
    numbers: Iterable[int],
    X: Any,
    y: Any = None,
    *,
    criterion: str = "bic",
    sample_weight: Any = None,
    n_jobs: int | None = None,
) -> Selection:
    """Fit an estimator with each number of experts and keep the best.

    Args:
        estimator: a mixture estimator, a distributed one, or a pipeline that ends in one; it is
            cloned.
        numbers: numbers of experts, such as ``range(1, 6)``.
        X: covariates; for a distributed estimator the shards, which are judged where they are.
        y: responses; a distributed estimator has them in its shards.
        criterion: ``"bic"``, ``"icl"`` or ``"aic"``.
        sample_weight: weights, [N]; those of shards are in the shards.
        n_jobs: fits run at once.
    """
    if criterion not in ("bic", "icl", "aic"):
        raise ValueError(f"{criterion=} is not known; choose 'bic', 'icl' or 'aic'")
    if not isinstance(numbers, Iterable):
        raise ValueError(  # noqa: TRY004 - as all refusals here
            f"{numbers=} is one number of experts; give several, such as range(1, 6)"
        )
    numbers = list(numbers)
    if not numbers:
        raise ValueError("no numbers of experts; give some, such as range(1, 6)")
    prefix, last = _find_mixture_estimator(estimator)
    apart = isinstance(last, DistributedEstimator)
    if apart and (y is not None or sample_weight is not None):
        raise ValueError("shards hold their own responses and weights; leave y and weights out")
    if apart and prefix:
        raise ValueError("a distributed estimator takes shards, which no pipeline can transform")
    if apart:
        X = list(X)
    tried = [_with_number(estimator, f"{prefix}n_experts", number) for number in numbers]
    judge = _fit_and_score_shards if apart else _fit_and_score
    more = () if apart else (y, sample_weight, prefix)
    jobs = (delayed(judge)(one, criterion, X, *more) for one in tried)
    done: list[Any] = list(Parallel(n_jobs=n_jobs)(jobs))
    criteria = {number: value for number, (_, value, _) in zip(numbers, done, strict=True)}
    lost = tuple(number for number, (*_, bad) in zip(numbers, done, strict=True) if bad)
    best = done[numbers.index(choose_number(criteria, lost))][0]
    return Selection(best, criteria, lost)


def _with_number(estimator: Any, name: str, number: int) -> Any:
    fresh: Any = clone(estimator)
    return fresh.set_params(**{name: number})


def _find_mixture_estimator(estimator: Any) -> tuple[str, Any]:
    """Give the mixture estimator at the end of pipelines, and the prefix of its parameters."""
    prefix = ""
    while isinstance(estimator, Pipeline):
        name, estimator = estimator.steps[-1]
        prefix += f"{name}__"
    if not isinstance(estimator, MixtureEstimator):
        raise ValueError(  # noqa: TRY004 - as all refusals here
            f"{type(estimator).__name__} is no mixture estimator; give one, or a pipeline that "
            "ends in one"
        )
    return prefix, estimator


def _fit_and_score(
    estimator: Any, criterion: str, X: Any, y: Any, sample_weight: Any, prefix: str
) -> tuple[Any, float, bool]:
    weights = {} if sample_weight is None else {f"{prefix}sample_weight": sample_weight}
    fitted = last = estimator.fit(X, y, **weights)
    while isinstance(last, Pipeline):
        X = last[:-1].transform(X) if len(last.steps) > 1 else X
        last = last.steps[-1][1]
    value = float(getattr(last, criterion)(X, y, sample_weight))
    return fitted, value, bool(np.any(last.floored_))


def _fit_and_score_shards(
    estimator: Any, criterion: str, shards: list[Any]
) -> tuple[Any, float, bool]:
    fitted = estimator.fit(shards)
    value = float(getattr(fitted.assess(shards), criterion))
    return fitted, value, bool(np.any(fitted.floored_) or np.any(fitted.floored_experts_))
