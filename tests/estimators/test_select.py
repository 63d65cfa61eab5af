"""The number of experts, with weights, in pipelines and on many machines."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from moiety.estimators import (
    DistributedMixtureOfExpertsRegressor,
    MixtureOfExpertsClassifier,
    MixtureOfExpertsRegressor,
    select_experts,
)
from tests.estimators.worlds import draw, gaussian_mixture, shards


@pytest.fixture(scope="module")
def rows():
    return draw(gaussian_mixture(11), 900, 0)


def plain(**options):
    return MixtureOfExpertsRegressor(random_state=0, n_init=3, tol=1e-6, **options)


def test_weights_count_as_rows(rows):
    x, y = rows
    few = np.arange(900) < 300
    weighed = select_experts(plain(), (1, 2, 3), x, y, sample_weight=1.0 + few)
    again = select_experts(
        plain(), (1, 2, 3), np.concatenate([x, x[few]]), np.concatenate([y, y[few]])
    )
    assert weighed.n_experts == again.n_experts
    for number in (1, 2, 3):
        assert weighed.criteria[number] == pytest.approx(again.criteria[number], rel=1e-3)
    bare = select_experts(plain(), (1,), x, y)
    assert weighed.criteria[1] != pytest.approx(bare.criteria[1], rel=1e-2)


@pytest.mark.parametrize("nested", [False, True])
def test_pipelines(rows, nested):
    """One expert does not care for units, so that its BIC is that of the bare estimator."""
    x, y = rows
    pipe = make_pipeline(StandardScaler(), plain())
    pipe = Pipeline([("inner", pipe)]) if nested else pipe
    found = select_experts(pipe, (1, 3), x, y, sample_weight=np.full(900, 2.0))
    bare = select_experts(plain(), (1, 3), x, y, sample_weight=np.full(900, 2.0))
    assert found.n_experts == bare.n_experts == 3
    assert found.criteria[1] == pytest.approx(bare.criteria[1], rel=1e-9)
    assert found.best.predict(x).shape == (900,)
    assert isinstance(found.best, Pipeline)


def test_many_machines(rows):
    parts = shards(rows[0], rows[1], 2)
    model = DistributedMixtureOfExpertsRegressor(random_state=0, n_init=3, tol=1e-6)
    found = select_experts(model, (1, 2, 3), iter(parts))
    assert found.n_experts == found.best.n_experts == 3
    assert found.criteria[3] == pytest.approx(found.best.bic(*rows), rel=1e-10)
    with pytest.raises(ValueError, match="hold their own responses"):
        select_experts(model, (1, 2), parts, rows[1])
    with pytest.raises(ValueError, match="no pipeline can transform"):
        select_experts(make_pipeline(StandardScaler(), model), (1, 2), parts)


def test_other_estimators_are_refused(rows):
    for other in (LinearRegression(), make_pipeline(StandardScaler(), LinearRegression())):
        with pytest.raises(ValueError, match="LinearRegression is no mixture estimator"):
            select_experts(other, (1, 2), *rows)


@pytest.mark.parametrize("unit", [1 / 900, 1e-9, 0.5])
@pytest.mark.parametrize("classes", [False, True])
def test_the_unit_of_weights_changes_no_criterion(rows, unit, classes):
    """Weights that sum to 1 are the same rows: no fewer for a criterion or an error than a fit."""
    x, y = rows
    model = plain() if not classes else MixtureOfExpertsClassifier(2, random_state=0, n_init=2)
    target = y if not classes else (y > np.median(y)).astype(int)
    weights = np.random.default_rng(0).uniform(0.5, 1.0, len(y))
    weights *= len(y) / weights.sum()
    model.fit(x, target, weights)
    for name in ("bic", "aic", "icl"):
        judge = getattr(model, name)
        assert judge(x, target, unit * weights) == pytest.approx(judge(x, target, weights))
    found, wanted = (model.standard_errors(x, target, w) for w in (unit * weights, weights))
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6)
    assert model.log_likelihood(x, target, unit * weights) == pytest.approx(
        unit * model.log_likelihood(x, target, weights)
    )


def test_weights_of_sum_one_choose_as_none_do():
    """One regression and no mixture: a row of weight 1 / N must not count as nothing."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 2))
    y = 1 + 2 * x[:, 0] + rng.normal(size=600)
    bare = select_experts(plain(), (1, 2), x, y)
    weighed = select_experts(plain(), (1, 2), x, y, sample_weight=np.full(600, 1 / 600))
    assert bare.n_experts == weighed.n_experts == 1
    for number in (1, 2):
        assert weighed.criteria[number] == pytest.approx(bare.criteria[number], rel=1e-9)
