"""Columns that are constant on every machine."""

import warnings

import numpy as np
import pytest

from moiety.estimators import DistributedMixtureOfExpertsRegressor, MixtureOfExpertsRegressor
from tests.estimators.worlds import draw, gaussian_mixture, shards


@pytest.fixture(scope="module")
def rows():
    return draw(gaussian_mixture(11), 3000, 0)


@pytest.mark.parametrize("constant", [0.1, 1.0, 7.0, 123.456])
@pytest.mark.parametrize("choices", [{}, {"refine_rounds": 2}, {"gate": "projection"}])
def test_a_column_constant_everywhere_gets_no_coefficient(rows, constant, choices):
    x, y = rows
    model = DistributedMixtureOfExpertsRegressor(3, random_state=0, **choices)
    plain = model.fit(shards(x, y, 4)).log_likelihood(x, y)
    parameters = model.n_parameters_
    wide = np.column_stack([x, np.full(3000, constant)])
    model.fit(shards(wide, y, 4))
    assert (model.coef_[:, 2] == 0).all()
    assert (model.gate_coef_[:, 2] == 0).all()
    assert np.abs(model.intercept_).max() < 100
    assert model.log_likelihood(wide, y) == pytest.approx(plain, abs=0.5)
    assert model.n_parameters_ == parameters


@pytest.mark.parametrize("reduction", ["middle", "average"])
def test_baselines_keep_it_out_too(rows, reduction):
    x, y = rows
    wide = np.column_stack([x, np.full(3000, 0.1)])
    model = DistributedMixtureOfExpertsRegressor(3, random_state=0, reduction=reduction)
    assert (model.fit(shards(wide, y, 4)).coef_[:, 2] == 0).all()


def test_a_support_without_spread_asks_nothing_of_a_column(rows):
    """Fits that know a column, compared where it does not move, keep what it does there."""
    x, y = rows
    fits = [MixtureOfExpertsRegressor(3, random_state=0).fit(*part) for part in shards(x, y, 3)]
    support = np.column_stack([np.random.default_rng(0).normal(size=400), np.full(400, 0.1)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = DistributedMixtureOfExpertsRegressor(3, random_state=0).merge(fits, support=support)
    assert np.isfinite(model.coef_).all()
    assert np.abs(model.coef_).max() < 100
    assert (model.coef_[:, 1] == 0).all()


@pytest.mark.parametrize("options", [{}, {"gate_columns": [0]}, {"expert_lasso": 1e-3}])
def test_criteria_count_no_column_that_is_constant(rows, options):
    """As a linear model drops it; its coefficients are 0 and nobody chose them."""
    x, y = rows[0][:200], rows[1][:200]
    wide = np.column_stack([x, np.full(200, 7.0)])
    plain, other = (
        MixtureOfExpertsRegressor(2, random_state=0, n_init=1, tol=1e-4, **options).fit(z, y)
        for z in (x, wide)
    )
    assert other.n_parameters_ == plain.n_parameters_
    for name in ("bic", "aic", "icl"):
        same = getattr(plain, name)(x, y)
        assert getattr(other, name)(wide, y) == pytest.approx(same, abs=1e-3)
