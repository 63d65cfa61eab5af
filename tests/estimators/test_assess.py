"""Criteria and standard errors from sums are those of all rows in one place."""

from typing import Any

import numpy as np
import pytest

from moiety.estimators import (
    DistributedMixtureOfExpertsClassifier,
    DistributedMixtureOfExpertsRegressor,
)
from tests.estimators.worlds import categorical_mixture, draw, gaussian_mixture, shards


def fitted(kind):
    options: dict[str, Any] = {"random_state": 0, "refine_rounds": 6}
    if kind == "classes":
        truth = categorical_mixture(5)
        x, y = draw(truth, 1500, 0)
        model = DistributedMixtureOfExpertsClassifier(2, init=truth, **options)
    else:
        x, y = draw(gaussian_mixture(11), 1500, 0)
        x = x * [3.0, 0.1] + [5.0, -2.0]
        model = DistributedMixtureOfExpertsRegressor(3, n_init=2, **options)
    return model.fit(shards(x, y, 3)), x, y


@pytest.mark.parametrize("kind", ["regression", "classes"])
def test_three_machines_say_what_one_would(kind):
    model, x, y = fitted(kind)
    found = model.assess(shards(x, y, 3))
    assert found.log_likelihood == pytest.approx(model.log_likelihood(x, y), rel=1e-10)
    assert found.rows == 1500
    for name in ("bic", "aic", "icl"):
        assert getattr(found, name) == pytest.approx(getattr(model, name)(x, y), rel=1e-10)
    assert found.bic + 2 * found.soft_entropy == pytest.approx(model.icl(x, y, hard=False))
    whole = model.standard_errors(x, y)
    assert set(found.standard_errors) == set(whole)
    for name, values in whole.items():
        np.testing.assert_allclose(found.standard_errors[name], values, rtol=1e-6)


def test_weights_and_bytes():
    """By hand: 18 parameters down; up their triangle 18 * 19 / 2 and 5 sums."""
    model, x, y = fitted("regression")
    weights = np.random.default_rng(0).uniform(1.0, 3.0, len(y))
    parts = [(x[p], y[p], weights[p]) for p in np.array_split(np.arange(len(y)), 3)]
    found = model.assess(parts)
    assert found.bic == pytest.approx(model.bic(x, y, weights), rel=1e-10)
    assert found.standard_errors["experts"] == pytest.approx(
        model.standard_errors(x, y, weights)["experts"], rel=1e-6
    )
    assert found.down_bytes == 3 * 8 * 18
    assert found.up_bytes == 3 * 8 * (171 + 5)


def test_a_constant_column_has_no_error():
    x, y = draw(gaussian_mixture(11), 1500, 0)
    x = np.column_stack([x, np.full(1500, 7.0)])
    model = DistributedMixtureOfExpertsRegressor(3, random_state=0, n_init=2)
    model.fit(shards(x, y, 3))
    with pytest.warns(UserWarning, match=r"x2\): these rows"):
        found = model.assess(shards(x, y, 3)).standard_errors
    assert np.isnan(found["gate"][3]).all()
    assert np.isfinite(found["gate"][:3]).all()
    assert np.isfinite(found["log_variances"]).all()


def test_shards_are_needed():
    model = DistributedMixtureOfExpertsRegressor(3, init=gaussian_mixture(11))
    model.fit([draw(gaussian_mixture(11), 300, 0)])
    with pytest.raises(ValueError, match="no shards"):
        model.assess([])
    x, y = draw(gaussian_mixture(11), 20, 0)
    with pytest.raises(ValueError, match="have 1 covariates, and the fit 2"):
        model.assess([(x[:, :1], y)])
