"""Merging estimators that were fitted elsewhere."""

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from moiety.estimators import (
    DistributedMixtureOfExpertsClassifier,
    DistributedMixtureOfExpertsRegressor,
    MixtureOfExpertsClassifier,
    MixtureOfExpertsRegressor,
)
from tests.estimators.worlds import draw, gaussian_mixture


@pytest.fixture(scope="module")
def rows():
    return draw(gaussian_mixture(11), 1500, 0)


@pytest.fixture(scope="module")
def fits(rows):
    x, y = rows
    parts = [slice(0, 1100), slice(1100, 1500)]
    return [MixtureOfExpertsRegressor(3, random_state=0).fit(x[p], y[p]) for p in parts]


@pytest.fixture(scope="module")
def support():
    return np.random.default_rng(0).normal(size=(300, 2))


def named(rows, names):
    frame = pd.DataFrame(rows[0], columns=names)
    return MixtureOfExpertsRegressor(3, random_state=0).fit(frame, rows[1])


def test_the_fits_know_their_rows(fits, support):
    model = DistributedMixtureOfExpertsRegressor(3, random_state=0).merge(fits, support=support)
    assert [local.rows for local in model.locals_] == [1100, 400]
    bare = [fit.mixture_ for fit in fits]
    model.merge(bare, support=support)
    assert [local.rows for local in model.locals_] == [1, 1]


def test_names_are_compared_and_adopted(rows, fits, support):
    one, other = named(rows, ["a", "b"]), named(rows, ["b", "a"])
    model = DistributedMixtureOfExpertsRegressor(3, random_state=0)
    with pytest.raises(ValueError, match=r"estimator 1 has the columns \['b', 'a'\]"):
        model.merge([one, other], support=support)
    with pytest.raises(ValueError, match="the support has the columns"):
        model.merge([one], support=pd.DataFrame(support, columns=["b", "a"]))
    model.merge([one, one], support=pd.DataFrame(support, columns=["a", "b"]))
    assert list(model.feature_names_in_) == ["a", "b"]
    model.merge(fits, support=support)
    assert not hasattr(model, "feature_names_in_")


def test_other_kinds_and_unfitted_ones_are_refused(rows, fits, support):
    x, y = rows
    model = DistributedMixtureOfExpertsRegressor(3, random_state=0)
    classifier = MixtureOfExpertsClassifier(2, random_state=0).fit(x[:300], y[:300] > 0)
    with pytest.raises(ValueError, match="estimator 1 is a classifier"):
        model.merge([fits[0], classifier], support=support)
    with pytest.raises(ValueError, match="estimator 0 is a regressor"):
        DistributedMixtureOfExpertsClassifier(2).merge(fits, support=support)
    with pytest.raises(NotFittedError, match="not fitted"):
        model.merge([fits[0], MixtureOfExpertsRegressor(3)], support=support)
    noisy = MixtureOfExpertsRegressor(1, noise="range", tol=1e-3).fit(x[:100], y[:100])
    with pytest.raises(ValueError, match="estimator 0 has a share of noise"):
        model.merge([noisy, noisy], support=support)
    counts = MixtureOfExpertsRegressor(1, family="poisson").fit(x[:100], np.round(np.abs(y[:100])))
    with pytest.raises(ValueError, match="estimator 0 has experts of another family"):
        model.merge([counts], support=support)
    with pytest.raises(ValueError, match="tol=-1"):
        DistributedMixtureOfExpertsRegressor(3, tol=-1).merge(fits, support=support)
    with pytest.raises(ValueError, match=r"fit\.pkl holds no config\.json"):
        model.merge(["fit.pkl"], support=support)


def test_bad_weights_and_supports_are_refused(fits, support):
    model = DistributedMixtureOfExpertsRegressor(3, random_state=0)
    for weights, word in (([1, np.nan], "weight 1 is nan"), ([-1, 1], "weight 0 is -1.0")):
        with pytest.raises(ValueError, match=word):
            model.merge(fits, weights, support=support)
    with pytest.raises(ValueError, match=r"shape \(300,\)"):
        model.merge(fits, support=support[:, 0])
    spoilt = support.copy()
    spoilt[3, 1] = np.nan
    with pytest.raises(ValueError, match="nan in row 3, covariate 1"):
        model.merge(fits, support=spoilt)
