"""The number of experts, with weights, in pipelines and on many machines."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from moiety.estimators import (
    DistributedMixtureOfExpertsRegressor,
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
    parts = shards(*rows, 2)
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
