"""Slopes and spreads that all experts have in common."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from moiety.estimators import MixtureOfExpertsClassifier, MixtureOfExpertsRegressor
from moiety.estimators.formula import FormulaMixture
from tests.estimators.test_restricted import differentiate_twice


def draw(rows=250):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 2))
    first = rng.random(rows) < 1 / (1 + np.exp(-2 * x[:, 0]))
    noise = np.where(first, 0.5, 0.8) * rng.normal(size=rows)
    y = np.where(first, 2 + x[:, 0], -2 - x[:, 0]) + 0.7 * x[:, 1] + noise
    return x, y, first.astype(int)


def negative_log_likelihood(theta, x, y):
    """Write the density out: gate 3, two lines of 2, the slope and the log variance of both."""
    odds, variance = theta[0] + x @ theta[1:3], np.exp(theta[8])

    def own(intercept, slope):
        gap = y - intercept - slope * x[:, 0] - theta[7] * x[:, 1]
        return -0.5 * (np.log(2 * np.pi * variance) + gap**2 / variance)

    first = own(*theta[3:5]) - np.logaddexp(0, -odds)
    return -np.logaddexp(first, own(*theta[5:7]) - np.logaddexp(0, odds)).sum()


def test_shared_slopes_and_spread_against_a_general_optimiser():
    x, y, labels = draw()
    options = {"shared_columns": [1], "shared_spread": True}
    model = MixtureOfExpertsRegressor(2, init=labels, tol=1e-13, **options).fit(x, y)
    assert np.ptp(model.coef_[:, 1]) < 1e-14
    assert np.ptp(model.variances_) < 1e-14
    point = np.array([
        model.gate_intercept_[0], *model.gate_coef_[0], model.intercept_[0], model.coef_[0, 0],
        model.intercept_[1], model.coef_[1, 0], model.coef_[0, 1], np.log(model.variances_[0]),
    ])  # fmt: skip
    best = minimize(negative_log_likelihood, point, args=(x, y), options={"gtol": 1e-4})
    assert model.log_likelihood(x, y) == pytest.approx(-best.fun, abs=1e-5)
    assert model.n_parameters_ == 9
    value = -2 * model.log_likelihood(x, y) + 9 * np.log(len(y))
    assert model.bic(x, y) == pytest.approx(value, abs=1e-9)
    hessian = differentiate_twice(lambda theta: negative_log_likelihood(theta, x, y), point)
    expected = np.sqrt(np.diag(np.linalg.inv(hessian)))
    found = model.standard_errors(x, y)
    np.testing.assert_allclose(found["gate"][:, 0], expected[:3], rtol=1e-3)
    lines = [*found["experts"][:2].T.ravel(), found["experts"][2, 0], found["log_variances"][1]]
    np.testing.assert_allclose(lines, expected[3:], rtol=1e-3)
    assert np.isfinite(model.standard_errors(x, y, kind="sandwich")["experts"]).all()
    assert "one for all experts  x1, spread" in model.summary(x, y)


@pytest.mark.parametrize("family", ["student", "poisson", "gamma", "negative_binomial"])
def test_families_share_what_they_have(family, tmp_path):
    x, y, labels = draw(150)
    if family != "student":
        mean = np.exp(0.3 * y)
        y = mean if family == "gamma" else np.random.default_rng(1).poisson(mean).astype(float)
    spread = family != "poisson"
    options = {"family": family, "init": labels, "tol": 1e-6}
    model = MixtureOfExpertsRegressor(2, shared_columns=[1], shared_spread=spread, **options).fit(
        x, y
    )
    free = MixtureOfExpertsRegressor(2, **{**options, "init": model}).fit(x, y)
    assert np.ptp(model.coef_[:, 1]) < 1e-12
    assert np.ptp(model.coef_[:, 0]) > 0.1
    for values in model.spreads_.values():
        assert np.ptp(values) == 0
    assert model.n_parameters_ == free.n_parameters_ - 1 - len(model.spreads_)
    assert model.converged_
    assert model.log_likelihood(x, y) < free.log_likelihood(x, y) + 0.05  # but for the ridge
    model.save(tmp_path)
    again = MixtureOfExpertsRegressor.load(tmp_path)
    assert again.bic(x, y) == model.bic(x, y)
    assert again.shared_columns == [1]


def test_a_formula_says_what_is_shared(tmp_path):
    x, y, labels = draw()
    frame = pd.DataFrame({"x": x[:, 0], "z": x[:, 1], "y": y})
    told = FormulaMixture("y ~ x + shared(z)", MixtureOfExpertsRegressor(2, init=labels)).fit(frame)
    plain = MixtureOfExpertsRegressor(2, init=labels, shared_columns=[1]).fit(x, y)
    assert told.bic(frame) == pytest.approx(plain.bic(x, y), abs=1e-8)
    told.save(tmp_path)
    assert FormulaMixture.load(tmp_path).bic(frame) == told.bic(frame)
    for formula, text in (
        ("y ~ x:shared(z)", "stands alone"),
        ("y ~ x | shared(z)", "the gate shares nothing"),
        ("y ~", "a part has no terms"),
        ("y ~ x |", "a part has no terms"),
    ):
        with pytest.raises(ValueError, match=text):
            FormulaMixture(formula).fit(frame)
    with pytest.raises(ValueError, match="experts of classes share nothing"):
        FormulaMixture("y ~ shared(z)", MixtureOfExpertsClassifier(2)).fit(frame)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"shared_columns": [2]}, "shared_columns names 2"),
        ({"shared_columns": [1], "expert_columns": [0]}, "which the experts do not use"),
        ({"shared_columns": [1], "offset": 1}, "which the experts do not use"),
        ({"shared_columns": [1], "expert_lasso": 0.1}, "leave one of them out"),
        ({"shared_spread": 1}, "must be True or False"),
        ({"shared_spread": True, "family": "poisson"}, "no spread"),
        ({"shared_spread": True, "algorithm": "published"}, "published"),
    ],
)
def test_what_cannot_be_shared(options, text):
    x, y, _ = draw(40)
    with pytest.raises(ValueError, match=text):
        MixtureOfExpertsRegressor(1, **options).fit(x, y)
