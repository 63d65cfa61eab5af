"""Standard errors do not depend on units, and say what is not identified."""

import warnings

import numpy as np
import pytest

from moiety.estimators.standard_errors import standard_errors
from moiety.mixtures.climb import run_em
from moiety.mixtures.em import sum_rows
from moiety.mixtures.experts import GaussianExperts
from moiety.mixtures.model import Mixture, add_constant, map_covariates, uncentring_matrix
from moiety.mixtures.scale import rescale_response
from tests.estimators.worlds import categorical_mixture, draw, gaussian_mixture


def errors_in_units(mixture, rows, mean, spread):
    """Give errors on rows shifted by ``mean`` and stretched by ``spread``."""
    x, y, weights = rows
    there = uncentring_matrix(np.array(mean), np.array(spread))
    return standard_errors(
        map_covariates(mixture, there), (add_constant(x * spread + mean), y, weights)
    )


def problem(make, **sizes):
    mixture = make(3, **sizes)
    x, y = draw(mixture, 2000, 1)
    rows = (x, y.astype(float), np.random.default_rng(0).uniform(0.5, 2, 2000))
    block = (add_constant(x), *rows[1:])
    return run_em(lambda at: sum_rows(at, [block]), mixture).mixture, rows


@pytest.mark.parametrize("make", [gaussian_mixture, categorical_mixture])
@pytest.mark.parametrize("spread", [[1e-3, 1.0], [1.0, 1e5], [1e-3, 1e5], [1e9, 1e-9]])
def test_errors_scale_with_the_covariates(make, spread):
    mixture, rows = problem(make)
    plain = standard_errors(mixture, (add_constant(rows[0]), *rows[1:]))
    found = errors_in_units(mixture, rows, [0.0, 0.0], spread)
    stretch = np.array([1.0, *spread])
    for name in ("gate", "experts"):
        back = found[name] * stretch.reshape(-1, *[1] * (found[name].ndim - 1))
        np.testing.assert_allclose(back, plain[name], rtol=1e-7)


@pytest.mark.parametrize("make", [gaussian_mixture, categorical_mixture])
def test_a_shift_leaves_the_slopes_errors(make):
    mixture, rows = problem(make)
    plain = standard_errors(mixture, (add_constant(rows[0]), *rows[1:]))
    found = errors_in_units(mixture, rows, [2000.0, 0.0], [1.0, 1.0])
    for name in ("gate", "experts"):
        np.testing.assert_allclose(found[name][1:], plain[name][1:], rtol=1e-6)
        np.testing.assert_allclose(found[name][0], 2000 * plain[name][1], rtol=0.01)


def test_errors_scale_with_the_response():
    mixture, (x, y, weights) = problem(gaussian_mixture)
    plain = standard_errors(mixture, (add_constant(x), y, weights))
    moved = rescale_response(mixture, 5.0, 1e4)
    found = standard_errors(moved, (add_constant(x), 5.0 + 1e4 * y, weights))
    np.testing.assert_allclose(found["experts"], 1e4 * plain["experts"], rtol=1e-7)
    np.testing.assert_allclose(found["gate"], plain["gate"], rtol=1e-7)
    np.testing.assert_allclose(found["log_variances"], plain["log_variances"], rtol=1e-7)


def widened(mixture):
    """Add a covariate of which the mixture makes no use."""
    gate = np.vstack([mixture.gate, np.zeros(mixture.num_experts)])
    coef = np.vstack([mixture.experts.coef, np.zeros(mixture.num_experts)])
    return Mixture(gate, GaussianExperts(coef, mixture.experts.variances))


@pytest.mark.parametrize("constant", [0.1, 7.0])
def test_a_constant_column_has_no_error(constant):
    mixture, (x, y, weights) = problem(gaussian_mixture)
    plain = standard_errors(mixture, (add_constant(x), y, weights))
    flat = np.column_stack([x, np.full(len(x), constant)])
    with pytest.warns(UserWarning, match=r"\(covariate 2\)"):
        found = standard_errors(widened(mixture), (add_constant(flat), y, weights))
    for name in ("gate", "experts"):
        assert np.isnan(found[name][3]).all()
        np.testing.assert_allclose(found[name][:3], plain[name], rtol=1e-9)


def test_collinear_columns_have_no_error_and_others_do():
    mixture, (x, y, weights) = problem(gaussian_mixture)
    plain = standard_errors(mixture, (add_constant(x), y, weights))
    twice = np.column_stack([x, 2 * x[:, 1] + 3])
    with pytest.warns(UserWarning, match="intercept, covariate 1, covariate 2"):
        found = standard_errors(widened(mixture), (add_constant(twice), y, weights))
    for name in ("gate", "experts"):
        assert np.isnan(found[name][[0, 2, 3]]).all()
        np.testing.assert_allclose(found[name][1], plain[name][1], rtol=1e-6)
    np.testing.assert_allclose(found["log_variances"], plain["log_variances"], rtol=1e-6)


def test_where_the_likelihood_bends_upwards_there_is_no_error():
    mixture, (x, y, weights) = problem(gaussian_mixture)
    far = Mixture(
        mixture.gate, GaussianExperts(mixture.experts.coef + 1.5, mixture.experts.variances)
    )
    with pytest.warns(UserWarning, match="NaN"):
        found = standard_errors(far, (add_constant(x), y, weights))
    assert all((part[~np.isnan(part)] > 0).all() for part in found.values())


def test_one_expert_without_covariates_that_vary():
    y = np.random.default_rng(0).normal(size=500)
    mixture = Mixture(np.zeros((1, 1)), GaussianExperts(np.zeros((1, 1)), np.ones(1)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = standard_errors(mixture, (np.ones((500, 1)), y, np.ones(500)))
    assert found["experts"][0, 0] == pytest.approx(1 / np.sqrt(500), rel=0.1)
