"""Errors and tests by fitting again to rows drawn again.

Letters: N rows, K experts, R replications.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from scipy.special import logit
from sklearn.base import clone
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted

from moiety.estimators.base import make_numpy_generator
from moiety.estimators.options import check_level
from moiety.estimators.single_base import SingleEstimator
from moiety.estimators.table import name_spreads
from moiety.mixtures.align import solve_assignment
from moiety.mixtures.logit import Array
from moiety.mixtures.model import Mixture, reorder_experts

RESAMPLES = ("rows", "law")


@dataclass(frozen=True)
class Bootstrap:
    """What fits to rows drawn again found: of every parameter the values, [R, ...].

    Parameters are named as standard errors are: ``gate``, ``experts``, ``log_variances`` or others.
    """

    values: dict[str, Array]

    def standard_errors(self) -> dict[str, Array]:
        """Give the standard deviations over the replications."""
        return {name: found.std(0, ddof=1) for name, found in self.values.items()}

    def interval(self, level: float = 0.95) -> dict[str, tuple[Array, Array]]:
        """Give the percentiles between which the level of the replications lies."""
        check_level(level, "level of intervals")
        ends = 0.5 * (1 - level), 0.5 * (1 + level)
        return {
            name: (np.quantile(found, ends[0], axis=0), np.quantile(found, ends[1], axis=0))
            for name, found in self.values.items()
        }


@dataclass(frozen=True)
class LikelihoodRatio:
    """Twice the gain in log-likelihood of one more expert, as seen and as drawn under fewer."""

    statistic: float
    drawn: Array

    @property
    def p(self) -> float:
        """Give the share of draws, what was seen included, that gain as much."""
        return float((1 + (self.drawn >= self.statistic).sum()) / (1 + len(self.drawn)))


def bootstrap_fit(  # noqa: PLR0913 - the habits of scikit-learn
    fitted: SingleEstimator,
    X: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    replications: int = 200,
    resample: str = "rows",
    random_state: Any = None,
    n_jobs: int | None = None,
) -> Bootstrap:
    """Fit a fitted estimator again to rows drawn again, each time from its present solution.

    So experts keep their order, and errors are of this maximum. Rows that hold fewer experts than
    were fitted, by chance, are an error: fewer experts then are too many.

    Args:
        fitted: an estimator of one machine.
        X: the covariates of its rows, [N, d].
        y: their responses, [N].
        sample_weight: their weights, [N]; they stay with their rows.
        replications: fits, 200 or more for errors, 1000 for intervals.
        resample: ``"rows"`` with replacement, which asks nothing of the law, or responses drawn
            from the fitted ``"law"``.
        random_state: seed of the draws; every replication has its own stream.
        n_jobs: fits run at once.
    """
    if resample not in RESAMPLES:
        raise ValueError(f"{resample=} is not known; choose from {list(RESAMPLES)}")
    if replications < 2:
        raise ValueError(f"{replications=} must be at least 2; errors need 200 or more")
    check_single(fitted)
    check_is_fitted(fitted)
    y = np.asarray(y)
    weights = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, float)
    streams = make_numpy_generator(random_state).spawn(replications)
    jobs = (delayed(_fit_again)(fitted, X, y, weights, resample, rng) for rng in streams)
    found: list[Any] = list(Parallel(n_jobs=n_jobs)(jobs))
    return Bootstrap({name: np.stack([one[name] for one in found]) for name in found[0]})


def compare_numbers(  # noqa: PLR0913 - the habits of scikit-learn
    estimator: SingleEstimator,
    n_experts: int,
    X: Any,
    y: Any,
    *,
    replications: int = 99,
    random_state: Any = None,
    n_jobs: int | None = None,
) -> LikelihoodRatio:
    """Test whether one more expert than ``n_experts`` is needed, by a bootstrap of the ratio.

    Its distribution under fewer experts is no chi-squared one; responses are drawn from the fit
    with fewer, and both numbers are fitted to them.

    Args:
        estimator: of one machine; it is cloned.
        n_experts: as many as suffice if the hypothesis holds.
        X: covariates, [N, d].
        y: responses, [N].
        replications: draws; the least p is one over one more.
        random_state: seed of the draws.
        n_jobs: draws fitted at once.
    """
    check_single(estimator)
    if replications < 1:
        raise ValueError(
            f"{replications=} must be at least 1; p is at least 1 / (1 + replications)"
        )
    seen, fewer = _gain(estimator, n_experts, X, np.asarray(y))
    streams = make_numpy_generator(random_state).spawn(replications)
    jobs = (
        delayed(_gain)(estimator, n_experts, X, _draw_responses(fewer, X, rng)) for rng in streams
    )
    drawn: list[Any] = list(Parallel(n_jobs=n_jobs)(jobs))
    return LikelihoodRatio(seen, np.array([gain for gain, _ in drawn]))


def check_single(estimator: Any) -> None:
    """Refuse what is no estimator of one machine."""
    if not isinstance(estimator, SingleEstimator):
        raise ValueError(  # noqa: TRY004 - as all refusals here
            f"{type(estimator).__name__} is no mixture of one machine; give one, of a formula its "
            "model_ with the columns of design(data)"
        )


def _gain(estimator: Any, number: int, x: Any, y: Array) -> tuple[float, Any]:
    """Give twice the gain of one more expert, and the fit with fewer."""
    fits = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fits with an expert too many, as is meant
        for count in (number, number + 1):
            fresh: Any = clone(estimator)
            fits.append(fresh.set_params(n_experts=count).fit(x, y))
    fewer, more = (fit.log_likelihood(x, y) for fit in fits)
    return 2 * (more - fewer), fits[0]


def _fit_again(
    fitted: Any, x: Any, y: Array, weights: Array, resample: str, rng: np.random.Generator
) -> dict[str, Array]:
    if resample == "rows":
        taken = rng.integers(len(y), size=len(y))
        x, y, weights = (
            _safe_indexing(x, taken),
            y[taken],
            weights[taken],
        )  # frames keep their names
    else:
        y = _draw_responses(fitted, x, rng)
    fresh: Any = clone(fitted)
    fresh.set_params(init=fitted.mixture_, n_init=1, n_experts=fitted.n_experts_)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what was to be told was told of the fit itself
        fresh.fit(x, y, weights)
    order = _match_order(fitted.mixture_, fresh.mixture_)
    return lay_out_parameters(fresh.mixture_, order)


def _draw_responses(fitted: Any, x: Any, rng: np.random.Generator) -> Array:
    if not fitted._classifies():  # noqa: SLF001 - of this package
        return fitted.predict_dist(x).sample(1, rng)[:, 0]
    below = fitted.predict_proba(x).cumsum(1)[:, :-1]
    return fitted.classes_[(rng.random((len(below), 1)) > below).sum(1)]


def _match_order(before: Mixture, after: Mixture) -> Array:
    """Tell where each expert went, when all were put in canonical order, by their coefficients."""
    size = before.num_experts
    first, second = (m.experts.coef.swapaxes(0, 1).reshape(size, -1) for m in (before, after))
    return solve_assignment(((first[:, None] - second) ** 2).sum(-1))


def lay_out_parameters(mixture: Mixture, order: Array) -> dict[str, Array]:
    """Give the parameters as standard errors are laid out, the experts in an order."""
    held = reorder_experts(mixture, order)
    coef = held.experts.coef
    found = {"gate": held.gate[:, :-1], "experts": coef[..., :-1] if coef.ndim == 3 else coef}
    spreads = name_spreads(held.experts)
    found |= {f"log_{name}": np.log(values) for name, values in spreads.items()}
    if mixture.noise is not None:
        found["noise"] = logit(np.array(mixture.noise.share))
    return found
