"""Columns, offsets and penalties of fits on many machines."""

import numpy as np
import pytest

from moiety.estimators import DistributedMixtureOfExpertsRegressor, MixtureOfExpertsRegressor

COLUMNS = {"gate_columns": [0], "expert_columns": [1], "offset": 2}


def draw(rows=900):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 3))
    first = rng.random(rows) < 1 / (1 + np.exp(-2 * x[:, 0]))
    line = np.where(first, 1 + 0.8 * x[:, 1], -1 - 0.8 * x[:, 1])
    return x, line, rng


def cut(x, y, machines=3):
    return [(x[part], y[part]) for part in np.array_split(np.arange(len(y)), machines)]


def fit_both(x, y, *, rounds, **options):
    options = {"random_state": 0, "n_init": 2, "tol": 1e-6, **options}
    apart = DistributedMixtureOfExpertsRegressor(2, refine_rounds=rounds, **options)
    return apart.fit(cut(x, y)), MixtureOfExpertsRegressor(2, **options).fit(x, y)


@pytest.mark.parametrize("family", ["normal", "poisson"])
def test_columns_and_offsets_of_machines_are_those_of_one(family, tmp_path):
    x, line, rng = draw()
    x[:, 2] *= 0.5
    y = line + x[:, 2] + 0.3 * rng.normal(size=len(x))
    if family == "poisson":
        y = rng.poisson(np.exp(1 + 0.5 * line + x[:, 2])).astype(float)
    apart, whole = fit_both(x, y, rounds=0, family=family, **COLUMNS)
    assert (apart.gate_coef_[:, 1:] == 0).all()
    assert (apart.coef_[:, 0] == 0).all()
    np.testing.assert_allclose(apart.coef_[:, 2], 1, rtol=1e-12)
    assert apart.log_likelihood(x, y) == pytest.approx(whole.log_likelihood(x, y), abs=1.0)
    assert apart.n_parameters_ == whole.n_parameters_
    judged, known = apart.assess(cut(x, y)), whole.standard_errors(x, y)
    assert judged.bic == pytest.approx(whole.bic(x, y), abs=2.0)
    np.testing.assert_allclose(judged.standard_errors["experts"], known["experts"], rtol=0.1)
    np.testing.assert_allclose(judged.standard_errors["gate"], known["gate"], rtol=0.2)
    apart.save(tmp_path)
    again = DistributedMixtureOfExpertsRegressor.load(tmp_path)
    assert again.n_parameters_ == apart.n_parameters_
    plain = [MixtureOfExpertsRegressor(2, family=family, n_init=1).fit(*one) for one in cut(x, y)]
    with pytest.raises(ValueError, match="fit 0 uses covariates"):
        apart.merge(plain, support=x)


@pytest.mark.parametrize(
    "options", [{"expert_lasso": 0.05, "gate_lasso": 0.03}, {"expert_ridge": 0.5}]
)
def test_penalised_machines_end_where_one_does(options):
    """In other units of y and x the penalty is the same, and zeros are exact after rounds."""
    x, line, rng = draw()
    y = 40 * (line + 0.3 * rng.normal(size=len(x)))
    apart, whole = fit_both(x * [1, 5, 1], y, rounds=8, **options)
    np.testing.assert_allclose(apart.coef_, whole.coef_, atol=0.05)
    np.testing.assert_array_equal(apart.coef_ == 0, whole.coef_ == 0)
    assert (whole.coef_ == 0).any() == ("expert_lasso" in options)
    assert apart.n_parameters_ == whole.n_parameters_


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"offset": 2, "family": "negative_binomial"}, "knows no offset"),
        ({"gate_columns": [0], "gate": "posterior"}, "uses all covariates"),
        ({"gate_columns": [3]}, "gate_columns names 3"),
        ({"expert_ridge": -1.0}, "expert_ridge=-1.0 must be"),
        ({"offset": 1}, "the same for all rows of a shard"),
    ],
)
def test_what_machines_cannot_keep(options, text):
    x, line, _ = draw(60)
    x[20:40, 1] = 2.0
    with pytest.raises(ValueError, match=text):
        DistributedMixtureOfExpertsRegressor(2, **options).fit(cut(x, np.abs(np.round(line))))
