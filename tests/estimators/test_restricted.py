"""Columns of gate and experts, offsets, noise and penalties."""

import warnings
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm
from sklearn.linear_model import Lasso, PoissonRegressor, Ridge

from moiety.estimators import (
    DistributedMixtureOfExpertsRegressor,
    MixtureOfExpertsClassifier,
    MixtureOfExpertsRegressor,
)
from moiety.mixtures.em import Prior, sum_rows
from moiety.mixtures.fit import Search
from moiety.mixtures.freedom import Freedom
from moiety.mixtures.laws import find_law
from moiety.mixtures.learn import learn_rows
from moiety.mixtures.model import add_constant
from moiety.mixtures.noise import Noise
from moiety.mixtures.penalties import (
    find_group_root,
    step_with_group_lasso,
    step_with_lasso,
)


def draw(rows=300, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 3))
    first = rng.random(rows) < 1 / (1 + np.exp(-2 * x[:, 0]))
    y = np.where(first, 2 + 1.5 * x[:, 1], -2 - x[:, 2]) + 0.5 * rng.normal(size=rows)
    return x, y, first.astype(int)


@pytest.mark.parametrize("free", [1, 2, 3])
def test_steps_under_a_lasso_are_optimal(free):
    """The gradient balances the penalty where a coefficient moves, and is within it where not."""
    rng, columns, lasso = np.random.default_rng(free), 5, 20.0
    half = rng.normal(size=(3 * columns * free, columns * free))
    information, slope = half.T @ half, 20 * rng.normal(size=(columns, free))
    here, ridge = rng.normal(size=(columns, free)), np.full((columns, free), 0.3)

    def left(step):
        pull = slope - (information @ step.T.ravel()).reshape(free, columns).T
        return pull - ridge * (here + step)

    step = step_with_lasso(slope, information, here, ridge, lasso)
    moved, rest = here + step, left(step)
    assert np.abs(rest[0]).max() < 1e-6
    held = np.abs(moved[1:]) < 1e-12
    assert held.any()
    assert np.abs(rest[1:][held]).max() <= lasso + 1e-6
    np.testing.assert_allclose(rest[1:][~held], lasso * np.sign(moved[1:][~held]), atol=1e-6)

    lasso = 45.0
    step = step_with_group_lasso(slope, information, here, ridge, lasso)
    root = find_group_root(free)
    moved, rest = (here + step) @ root, left(step) @ np.linalg.inv(root.T)
    norms = np.linalg.norm(moved[1:], axis=1)
    held = norms < 1e-12
    assert held.any()
    assert np.linalg.norm(rest[1:][held], axis=1).max() <= lasso + 1e-5
    unit = moved[1:][~held] / norms[~held, None]
    np.testing.assert_allclose(rest[1:][~held], lasso * unit, atol=1e-4)


@pytest.mark.parametrize("family", ["normal", "student", "poisson", "gamma", "classes"])
def test_only_columns_in_use_move(family):
    """At the maximum the score is 0 in all that may move; what may not is 0, or fixed."""
    x, y, _ = draw(120)
    rng = np.random.default_rng(1)
    if family in ("poisson", "gamma"):
        mean = np.exp(0.3 * y)
        y = rng.poisson(mean).astype(float) if family == "poisson" else rng.gamma(4, mean / 4)
    if family == "classes":
        y = (y > 0).astype(float)
    gate, experts = (True, False, False, True), (True, True, False, False)
    fixed = (0.0, 0.0, 0.4, 0.0)
    prior = Prior(0.0 if family != "classes" else 1e-3, free=Freedom(gate, experts, fixed))
    law = None if family in ("normal", "classes") else find_law(family)
    search = Search(2, classes=2 * (family == "classes"), num_starts=2, prior=prior, law=law,
                    tol=1e-11, max_iter=2000)  # fmt: skip
    learned = learn_rows((x, y, np.ones(len(y))), search, rng)
    found = learned.mixture
    sums = sum_rows(found, [(add_constant(x), y, np.ones(len(y)))])
    slopes = sums["slopes"] / len(y)
    if family == "classes":  # the ridge pulls back, on standardised covariates
        assert np.abs(slopes[[0, 1]][:, 1:]).max() < 1e-2
    else:
        assert np.abs(slopes[list(gate), 0]).max() < 1e-4
        assert np.abs(slopes[list(experts), 1:]).max() < 1e-4
    assert (found.gate[[1, 2]] == 0).all()
    assert (found.experts.coef[3] == 0).all()
    np.testing.assert_allclose(found.experts.coef[2].ravel()[0], 0.4, rtol=1e-12)


def test_a_fit_of_some_columns_is_the_fit_without_the_others():
    x, y, labels = draw()
    few = MixtureOfExpertsRegressor(2, init=labels).fit(x[:, :2], y)
    same = MixtureOfExpertsRegressor(2, init=labels, gate_columns=[0, 1], expert_columns=[0, 1])
    same.fit(x, y)
    assert same.log_likelihood(x, y) == pytest.approx(few.log_likelihood(x[:, :2], y), abs=1e-6)
    assert same.bic(x, y) == pytest.approx(few.bic(x[:, :2], y), abs=1e-5)
    assert same.n_parameters_ == few.n_parameters_
    for kind in ("observed", "sandwich"):
        wide = same.standard_errors(x, y, kind=kind)
        small = few.standard_errors(x[:, :2], y, kind=kind)
        np.testing.assert_allclose(wide["experts"][:3], small["experts"], rtol=1e-3)
        np.testing.assert_allclose(wide["gate"][:3], small["gate"], rtol=1e-3)
        assert (wide["experts"][3] == 0).all()
    assert list(same.summary_frame(x, y).term) == list(few.summary_frame(x[:, :2], y).term)


def test_an_offset_is_an_exposure():
    x, _, _ = draw(400)
    rng = np.random.default_rng(2)
    exposure = rng.uniform(0.2, 5, 400)
    y = rng.poisson(exposure * np.exp(0.3 + 0.5 * x[:, 0])).astype(float)
    known = PoissonRegressor(alpha=0, tol=1e-10, max_iter=1000)
    known.fit(x, y / exposure, sample_weight=exposure)
    whole = np.column_stack([np.log(exposure), x])
    ours = MixtureOfExpertsRegressor(1, family="poisson", offset=0, tol=1e-13).fit(whole, y)
    np.testing.assert_allclose(ours.coef_[0], [1.0, *known.coef_], atol=1e-5)
    assert ours.intercept_[0] == pytest.approx(known.intercept_, abs=1e-5)
    assert ours.n_parameters_ == 4


def test_an_offset_of_a_number_is_taken_off():
    x, y, labels = draw()
    moved = np.column_stack([x, 3 * x[:, 0] + np.cos(y)])
    plain = MixtureOfExpertsRegressor(2, init=labels).fit(x, y)
    ours = MixtureOfExpertsRegressor(2, init=labels, offset=3).fit(moved, y + moved[:, 3])
    np.testing.assert_allclose(ours.coef_[:, :3], plain.coef_, atol=2e-4)
    assert (ours.gate_coef_[:, 3] == 0).all()
    with pytest.raises(ValueError, match="offset=3 is the same for all rows"):
        ours.fit(np.column_stack([x, np.ones(len(x))]), y)


def test_penalties_are_those_of_one_regression():
    """One normal expert: the lasso and the ridge of scikit-learn, at the variance found."""
    x, y, _ = draw(200)
    x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
    for option, make in (("expert_lasso", Lasso), ("expert_ridge", Ridge)):
        ours = MixtureOfExpertsRegressor(1, tol=1e-13).set_params(**{option: 0.3}).fit(x, y)
        weight = 0.3 * ours.variances_[0] * (1 if make is Lasso else len(y))
        known = make(alpha=weight, tol=1e-12).fit(x, y)
        np.testing.assert_allclose(ours.coef_[0], known.coef_, atol=1e-6)
    sparse = MixtureOfExpertsRegressor(1, expert_lasso=0.45).fit(x, y)
    zeros = int((sparse.coef_ == 0).sum())
    assert zeros > 0
    assert sparse.n_parameters_ == 5 - zeros


def test_a_covariate_leaves_the_gate_as_a_whole():
    x, y, labels = draw()
    model = MixtureOfExpertsRegressor(2, init=labels, gate_lasso=0.05, expert_lasso=0.02).fit(x, y)
    assert (model.gate_coef_[:, 1:] == 0).all()
    assert model.gate_coef_[0, 0] != 0
    value = model.log_likelihoods_
    assert model.converged_
    assert value[-1] > value[0]
    options = {"random_state": 0, "n_init": 1, "gate_lasso": 9.0, "expert_lasso": 0.01}
    held = MixtureOfExpertsClassifier(2, tol=1e-4, **options)
    assert (held.fit(x, y > 0).gate_coef_ == 0).all()
    assert (held.coef_ == 0).any()


def stray(rows=400):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(rows, 1))
    y = 1 + 2 * x[:, 0] + 0.4 * rng.normal(size=rows)
    wild = rng.random(rows) < 0.2
    return x, np.where(wild, rng.uniform(-15, 15, rows), y)


def negative_log_likelihood(theta, x, y):
    share = 1 / (1 + np.exp(-theta[3]))
    own = norm.pdf(y, theta[0] + theta[1] * x[:, 0], np.exp(0.5 * theta[2]))
    return -np.log((1 - share) * own + share / 30).sum()


def test_noise_against_a_general_optimiser(tmp_path):
    x, y = stray()
    model = MixtureOfExpertsRegressor(1, noise=(-15, 15), tol=1e-13).fit(x, y)
    begin = np.array([1.0, 2.0, -2.0, -1.4])
    best = minimize(negative_log_likelihood, begin, args=(x, y), options={"gtol": 1e-4})
    assert model.log_likelihood(x, y) == pytest.approx(-best.fun, abs=1e-4)
    share = model.mixture_.noise.share
    assert share == pytest.approx(1 / (1 + np.exp(-best.x[3])), abs=1e-4)
    assert model.n_parameters_ == 4
    found = model.standard_errors(x, y)
    point = np.array([model.intercept_[0], model.coef_[0, 0], np.log(model.variances_[0]),
                      np.log(share / (1 - share))])  # fmt: skip
    hessian = differentiate_twice(lambda theta: negative_log_likelihood(theta, x, y), point)
    expected = np.sqrt(np.diag(np.linalg.inv(hessian)))
    ours = [*found["experts"][:, 0], found["log_variances"][0], found["noise"]]
    np.testing.assert_allclose(ours, expected, rtol=1e-3)
    assert model.summary_frame(x, y).iloc[-1].block == "noise"
    assert np.isfinite(model.icl(x, y))
    own = model.responsibilities(x, y)[:, 0]
    assert own.min() < 0.01
    assert own.mean() == pytest.approx(1 - share, abs=1e-6)
    model.save(tmp_path)
    again = MixtureOfExpertsRegressor.load(tmp_path)
    np.testing.assert_array_equal(again.log_density(x, y), model.log_density(x, y))
    sizes = again.experts_frame(x, y)
    assert sizes.expert.tolist() == [0, -1]
    assert sizes.share.tolist() == [1 - again.noise_share_, share]
    assert sizes.rows.sum() == pytest.approx(len(y))
    alone = again.set_params(noise=None, tol=1e-3).fit(x, y)  # nothing of the earlier fit stays
    assert "noise_share_" not in vars(alone)


def differentiate_twice(function, point, step=1e-3):
    basis, size = step * np.eye(len(point)), len(point)
    return np.array([[
        (function(point + basis[i] + basis[j]) - function(point + basis[i] - basis[j])
         - function(point - basis[i] + basis[j]) + function(point - basis[i] - basis[j]))
        / (4 * step**2) for j in range(size)] for i in range(size)])  # fmt: skip


def test_noise_of_counts_and_of_a_stream():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(500, 1))
    y = rng.poisson(np.exp(0.5 + 0.4 * x[:, 0])).astype(float)
    wild = rng.random(500) < 0.1
    y[wild] = rng.integers(0, 61, wild.sum())
    model = MixtureOfExpertsRegressor(1, family="poisson", noise=(0, 60)).fit(x, y)
    assert model.mixture_.noise.share == pytest.approx(0.1, abs=0.03)
    found = model.predict_dist(x[:2])
    counts = np.arange(61)
    chance = np.stack([found.pdf(np.full(2, count)) for count in counts], 1)
    np.testing.assert_allclose(chance.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(chance @ counts, found.mean(), rtol=1e-10)
    np.testing.assert_allclose(chance @ counts**2 - found.mean() ** 2, found.var(), rtol=1e-10)
    below = chance.cumsum(1)
    for level in (0.03, 0.5, 0.97):
        np.testing.assert_array_equal(found.quantile(level), (below < level).sum(1))
    drawn = found.sample(4000, 0)
    np.testing.assert_allclose(drawn.mean(1), found.mean(), rtol=0.15)
    stream: Any = MixtureOfExpertsRegressor(1, family="poisson", noise=(0, 60))
    for part in np.array_split(np.arange(500), 4):
        stream.partial_fit(x[part], y[part])
    assert stream.mixture_.noise.share == pytest.approx(model.mixture_.noise.share, abs=0.03)


def test_noise_of_numbers_predicts():
    x, y = stray()
    found = MixtureOfExpertsRegressor(1, noise="range").fit(x, y).predict_dist(x[:2])
    grid = np.linspace(y.min(), y.max(), 2001)
    density = np.stack([found.pdf(np.full(2, one)) for one in grid], 1)
    np.testing.assert_allclose(np.trapezoid(density, grid), 1, atol=1e-3)
    np.testing.assert_allclose(np.trapezoid(density * grid, grid), found.mean(), atol=1e-2)
    np.testing.assert_allclose(found.cdf(found.quantile(0.3)), 0.3, atol=1e-9)
    (low, high) = found.highest_density(0.5)[0][0]
    assert found.cdf(np.full(2, high))[0] - found.cdf(np.full(2, low))[0] >= 0.5


def test_noise_is_uniform():
    noise = Noise(2.0, 5.0, 0.3, whole=True)
    drawn = noise.draw((20_000,), np.random.default_rng(0))
    assert set(drawn) == {2.0, 3.0, 4.0, 5.0}
    assert noise.mean() == 3.5
    assert noise.variance() == pytest.approx(np.var([2, 3, 4, 5]))
    np.testing.assert_allclose(noise.cdf(np.array([1.0, 2.0, 4.5, 7.0])), [0, 0.25, 0.75, 1])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"gate_columns": ["age"]}, "gate_columns names 'age'"),
        ({"expert_columns": [3]}, "expert_columns names 3"),
        ({"gate_columns": "x"}, "give a list"),
        ({"offset": 1, "expert_columns": [1]}, "leave it out of the others"),
        ({"noise": "wide"}, "noise='wide' is not known"),
        ({"noise": (3, 3)}, "low < high"),
        ({"expert_lasso": -1}, "expert_lasso=-1 must be"),
        ({"gate_lasso": np.nan}, "gate_lasso=nan must be"),
        ({"algorithm": "published", "noise": (0, 1)}, "published"),
        ({"algorithm": "published", "gate_lasso": 0.1}, "published"),
    ],
)
def test_options_that_cannot_be_meant(options, text):
    x, y, _ = draw(50)
    with pytest.raises(ValueError, match=text):
        MixtureOfExpertsRegressor(1, **options).fit(x, y)


def test_missing_covariates_take_means_where_that_is_asked(tmp_path):
    x, y, labels = draw(200)
    holed = x.copy()
    holed[::7, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        MixtureOfExpertsRegressor(2, init=labels).fit(holed, y)
    model = MixtureOfExpertsRegressor(2, init=labels, missing="mean").fit(holed, y)
    filled = np.where(np.isnan(holed), np.nanmean(holed[:, 1]), holed)
    plain = MixtureOfExpertsRegressor(2, init=labels).fit(filled, y)
    np.testing.assert_allclose(model.coef_, plain.coef_, rtol=1e-9)
    np.testing.assert_allclose(model.predict(holed[:9]), plain.predict(filled[:9]), rtol=1e-9)
    model.save(tmp_path)
    again = MixtureOfExpertsRegressor.load(tmp_path)
    np.testing.assert_array_equal(again.predict(holed[:9]), model.predict(holed[:9]))
    holed[:, 2] = np.nan
    with pytest.raises(ValueError, match="covariate 2 is missing in all rows"):
        model.fit(holed, y)
    with pytest.raises(ValueError, match="missing='zero' is not known"):
        MixtureOfExpertsRegressor(2, missing="zero").fit(x, y)


def test_sparse_covariates_are_refused():
    from scipy.sparse import csr_array

    x, y, _ = draw(60)
    with pytest.raises(TypeError, match="dense data is required"):
        MixtureOfExpertsRegressor(1).fit(csr_array(x), y)
    with warnings.catch_warnings(), pytest.raises(ValueError, match="sparse"):
        DistributedMixtureOfExpertsRegressor(1).fit([(csr_array(x), y)])
