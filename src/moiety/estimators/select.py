"""How many experts: fit several numbers side by side and compare criteria."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from moiety.estimators.base import MixtureEstimator
from moiety.estimators.distributed import DistributedEstimator


@dataclass(frozen=True)
class Selection:
    """The best estimator, fitted, and the criterion of every number tried; lower is better."""

    best: Any
    criteria: dict[int, float]

    @property
    def n_experts(self) -> int:
        """Give the number chosen."""
        return min(self.criteria, key=lambda number: self.criteria[number])


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
    values = [value for _, value in done]
    best = done[values.index(min(values))][0]
    return Selection(best, dict(zip(numbers, values, strict=True)))


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
) -> tuple[Any, float]:
    weights = {} if sample_weight is None else {f"{prefix}sample_weight": sample_weight}
    fitted = last = estimator.fit(X, y, **weights)
    while isinstance(last, Pipeline):
        X = last[:-1].transform(X) if len(last.steps) > 1 else X
        last = last.steps[-1][1]
    return fitted, float(getattr(last, criterion)(X, y, sample_weight))


def _fit_and_score_shards(estimator: Any, criterion: str, shards: list[Any]) -> tuple[Any, float]:
    fitted = estimator.fit(shards)
    return fitted, float(getattr(fitted.assess(shards), criterion))
