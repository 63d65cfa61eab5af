"""Fits whose likelihood means nothing, or that follow a few rows, say so."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from moiety.estimators import (
    DistributedMixtureOfExpertsRegressor,
    MixtureOfExpertsRegressor,
    select_experts,
)
from moiety.mixtures.degenerate import count_effective_rows, measure_robust_variance
from moiety.mixtures.experts import GaussianExperts
from moiety.mixtures.laws import find_law
from moiety.mixtures.linked import LinkedExperts
from moiety.mixtures.model import Mixture
from tests.estimators.worlds import draw, gaussian_mixture, shards


def tied_rows(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Make responses of which many are the same number."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 2))
    if kind == "counts":
        return x, rng.poisson(np.exp(0.6 * x[:, 0] - 0.5)).astype(float)
    y = x[:, 0] + rng.normal(size=400)
    return (x, np.minimum(y, np.quantile(y, 0.9))) if kind == "capped" else (x, np.round(0.5 * y))


@pytest.mark.parametrize("kind", ["counts", "capped", "rounded"])
def test_a_fit_that_sits_on_one_response_names_it(kind):
    x, y = tied_rows(kind)
    with pytest.warns(UserWarning, match="rest at the floor") as told:
        model = MixtureOfExpertsRegressor(5, random_state=0, n_init=2, max_iter=2000).fit(x, y)
    assert model.floored_.any()
    first = next(str(one.message) for one in told if "the same response" in str(one.message))
    value = float(first.split("the same response ")[1].split(";")[0])
    assert np.isclose(y, value, rtol=1e-4).sum() == int(first.split(": ")[1].split(" of ")[0])


@pytest.mark.parametrize("kind", ["counts", "capped"])
def test_numbers_of_experts_that_collapse_are_not_chosen(kind):
    rows = tied_rows(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = select_experts(
            MixtureOfExpertsRegressor(random_state=0, n_init=2), range(1, 6), *rows
        )
    assert found.degenerate
    assert found.n_experts not in found.degenerate
    assert not found.best.floored_.any()
    assert min(found.criteria.values()) < found.criteria[found.n_experts]


def test_a_collapsed_start_does_not_win_against_a_sound_one():
    """Two good regressions and an atom: two experts that share the rows beat one on the atom."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 1))
    y = np.where(x[:, 0] > 0, 3 + x[:, 0], -3 - x[:, 0]) + 0.3 * rng.normal(size=300)
    y[:24] = 0.5
    model = MixtureOfExpertsRegressor(2, random_state=0, n_init=6).fit(x, y)
    assert not model.floored_.any()


def test_shards_say_where_variances_rest_at_the_floor():
    x, y = tied_rows("counts")
    model = DistributedMixtureOfExpertsRegressor(4, random_state=0, n_init=2, refine_rounds=0)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit(shards(x, y, 2))
    assert model.floored_.all()
    assert any("on shards [0, 1] variances rest at the floor" in str(one.message) for one in told)


def test_pooled_steps_say_that_they_let_an_expert_collapse():
    """No shard's own fit rests at the floor, but all of them together do."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 2))
    own = np.where(rng.random(800) < 0.5, x[:, 0], 1 + x[:, 1])
    y = np.minimum(1.5 * own + 0.5 * rng.normal(size=800), 2.0)
    model = DistributedMixtureOfExpertsRegressor(
        3, random_state=0, n_init=1, max_iter=1, refine_rounds=25
    )
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit(shards(x, y, 4))
    assert not model.floored_.any()
    assert model.floored_experts_.tolist() == [False, False, True]
    texts = [str(one.message) for one in told]
    assert any("variances of experts [2] came to rest at the floor" in text for text in texts)
    assert any("on shards [0, 1, 2, 3] EM did not converge" in text for text in texts)


def test_one_wild_count_that_carries_an_expert_is_told():
    """It owns eight rows, but one of them weighs more than the others together."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    y = rng.poisson(np.exp(0.5 + 0.4 * x[:, 0])).astype(float)
    y[3] = 300
    options = {"family": "poisson", "random_state": 0, "n_init": 1, "tol": 1e-5}
    with pytest.warns(UserWarning, match="fewer than their own parameters carry them"):
        model = MixtureOfExpertsRegressor(2, **options).fit(x, y)
    assert model.expert_rows_.min() > 3
    apart = DistributedMixtureOfExpertsRegressor(2, refine_rounds=0, **options)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        apart.fit(shards(x, y, 2))
    text = "an expert is carried by fewer rows than it has parameters"
    assert any(text in str(one.message) for one in told)


def test_effective_rows_by_hand():
    """Of counts a row weighs by its mean: 1, 1 and 98 rest on 100^2 / (1 + 1 + 98^2) rows."""
    law = find_law("poisson")
    assert law is not None
    x, line = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0]]), np.array([[0.0], [np.log(98.0)]])
    counts = Mixture(np.zeros((2, 1)), LinkedExperts(line, np.zeros((0, 1)), law))
    y = np.array([1.0, 1.0, 98.0])
    assert count_effective_rows(counts, x, y) == pytest.approx([100**2 / (2 + 98**2)])
    normal = Mixture(np.zeros((2, 1)), GaussianExperts(line, np.ones(1)))
    assert count_effective_rows(normal, x, y).tolist() == [np.inf]  # its mass says it all


def test_one_wild_response_does_not_raise_the_floor():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 1))
    y = x[:, 0] + 0.5 * rng.normal(size=500)
    y[7] = 1e6
    assert measure_robust_variance(y, np.ones(500)) < 3
    with pytest.warns(UserWarning, match="carry them|pass through their few"):
        model = MixtureOfExpertsRegressor(2, random_state=0).fit(x, y)
    assert model.variances_[np.argmax(model.expert_rows_)] == pytest.approx(0.25, rel=0.2)
    assert model.expert_rows_.min() < 3


def test_rows_too_few_for_the_parameters_are_told():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 8)), rng.normal(size=60)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        MixtureOfExpertsRegressor(2, random_state=0, n_init=2).fit(x[:, :3], y)
        few = len([one for one in told if "follow their noise" in str(one.message)])
        MixtureOfExpertsRegressor(3, random_state=0, n_init=2).fit(x, y)
        apart = DistributedMixtureOfExpertsRegressor(2, random_state=0, n_init=2, refine_rounds=0)
        apart.fit(shards(x, y, 2))
    texts = [str(one.message) for one in told]
    messages = [text for text in texts if "follow their noise" in text]
    where = "the fits of shards [0, 1] follow the noise of their rows: 29 parameters are fitted to"
    assert any(text.startswith(f"{where} 30 rows") for text in texts)
    assert few == 0
    assert messages == [
        "48 parameters are fitted to 60 rows and follow their noise; fit fewer experts, drop "
        "covariates, or add rows"
    ]


@pytest.mark.parametrize("max_iter", [1, 2, 5])
def test_all_steps_are_counted_and_each_climb_is_bounded(max_iter):
    x, y = draw(gaussian_mixture(11), 600, 0)
    with pytest.warns(ConvergenceWarning):
        model = MixtureOfExpertsRegressor(3, random_state=0, max_iter=max_iter, tol=1e-12).fit(x, y)
    assert max_iter < model.n_iter_ <= 3 * max_iter  # a look, a race of the best, the last climb
    assert len(model.log_likelihoods_) == max_iter + 1
    assert not model.converged_


def test_slopes_that_collinear_columns_leave_open_are_held():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3))
    x = np.column_stack([x, x @ [0.5, 0.3, -1.0] + 1e-5 * rng.normal(size=300)])
    y = np.where(x[:, 0] > 0, 2 + x[:, 1], -2 - x[:, 2]) + 0.3 * rng.normal(size=300)
    free, held = (
        MixtureOfExpertsRegressor(2, random_state=0, slope_limit=limit).fit(x, y)
        for limit in (float("inf"), 10.0)
    )
    scale = x.std(0) / y.std()
    assert np.abs(free.coef_ * scale).max() > 20
    assert np.abs(held.coef_ * scale).max() < 12
    assert held.log_likelihood(x, y) == pytest.approx(free.log_likelihood(x, y), abs=5)
    assert (np.diff(held.log_likelihoods_) > -1).all()


def test_the_limit_changes_no_ordinary_fit():
    x, y = draw(gaussian_mixture(11), 600, 0)
    free, held = (
        MixtureOfExpertsRegressor(3, random_state=0, slope_limit=limit).fit(x, y)
        for limit in (float("inf"), 10.0)
    )
    assert (free.coef_ == held.coef_).all()
    with pytest.raises(ValueError, match="slope_limit=0 must be a number above 0"):
        MixtureOfExpertsRegressor(3, slope_limit=0).fit(x, y)
