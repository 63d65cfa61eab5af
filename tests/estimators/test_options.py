"""Options that cannot be meant are refused by name."""

import numpy as np
import pytest

from moiety.estimators import (
    DistributedMixtureOfExpertsClassifier,
    DistributedMixtureOfExpertsRegressor,
    MixtureOfExpertsRegressor,
)
from tests.estimators.worlds import draw, gaussian_mixture


@pytest.fixture(scope="module")
def rows():
    return draw(gaussian_mixture(11), 200, 0)


@pytest.mark.parametrize("name", ["ridge", "tol", "variance_floor"])
@pytest.mark.parametrize("value", [-1e-3, np.nan, np.inf, "small", None])
def test_amounts(rows, name, value):
    for make in (MixtureOfExpertsRegressor, DistributedMixtureOfExpertsRegressor):
        with pytest.raises(ValueError, match=f"{name}=.*at least 0"):
            fit(make(2, **{name: value}), rows)


def fit(model, rows):
    return model.fit([rows]) if hasattr(model, "n_support") else model.fit(*rows)


@pytest.mark.parametrize(
    "options",
    [
        {"refine_rounds": -1},
        {"refine_rounds": 1.5},
        {"n_support": 0},
        {"n_support": -5},
        {"n_support": 10.5},
        {"n_experts": 0},
    ],
)
def test_counts(rows, options):
    (name, value), *_ = options.items()
    for make in (DistributedMixtureOfExpertsRegressor, DistributedMixtureOfExpertsClassifier):
        with pytest.raises(ValueError, match=f"{name}={value} must be a whole number"):
            make(**options).fit([rows])


def test_starts_that_would_be_ignored(rows):
    with pytest.raises(ValueError, match="of no use on shards"):
        DistributedMixtureOfExpertsRegressor(2, init=[0, 1] * 100).fit([rows])
    with pytest.raises(ValueError, match="init has 3 experts, but n_experts=2"):
        DistributedMixtureOfExpertsRegressor(2, init=gaussian_mixture(0)).fit([rows])
