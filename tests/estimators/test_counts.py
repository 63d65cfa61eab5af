"""Experts for counts."""

import numpy as np
import pytest
from scipy.stats import poisson
from sklearn.linear_model import PoissonRegressor

from moiety.estimators import (
    DistributedMixtureOfExpertsRegressor,
    MixtureOfExpertsRegressor,
    select_experts,
)
from moiety.mixtures.counts import PoissonKL
from moiety.mixtures.hellinger import squared_hellinger
from moiety.mixtures.information import observed_information
from moiety.mixtures.linked import LinkedExperts
from moiety.mixtures.model import Mixture, add_constant, log_density
from moiety.mixtures.poisson import POISSON, find_count_quantiles
from tests.estimators.worlds import shards


def poisson_experts(coef: np.ndarray) -> LinkedExperts:
    return LinkedExperts(coef, np.zeros((0, coef.shape[1])), POISSON)


def count_mixture() -> Mixture[LinkedExperts]:
    gate = np.array([[0.3, 0.0], [2.0, 0.0], [0.0, 0.0]])
    return Mixture(gate, poisson_experts(np.array([[2.2, 0.4], [0.3, -0.4], [-0.2, 0.5]])))


def draw_counts(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    mixture, rng = count_mixture(), np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2))
    ready = add_constant(x)
    first = rng.random(rows) < 1 / (1 + np.exp(-ready @ mixture.gate[:, 0]))
    rates = np.exp(mixture.experts.lines(ready))
    return x, rng.poisson(np.where(first, rates[:, 0], rates[:, 1])).astype(float)


@pytest.fixture(scope="module")
def whole() -> MixtureOfExpertsRegressor:
    x, y = draw_counts(1500, 0)
    return MixtureOfExpertsRegressor(2, family="poisson", random_state=0).fit(x, y)


def test_one_expert_is_poisson_regression():
    x, y = draw_counts(400, 0)
    weights = np.random.default_rng(0).uniform(0.5, 2, 400)
    model = MixtureOfExpertsRegressor(1, family="poisson", ridge=0).fit(x, y, weights)
    plain = PoissonRegressor(alpha=0, tol=1e-10, max_iter=500).fit(x, y, weights)
    np.testing.assert_allclose(model.coef_[0], plain.coef_, atol=1e-6)
    np.testing.assert_allclose(model.predict(x), plain.predict(x), rtol=1e-5)


def test_two_laws_are_found(whole):
    truth = count_mixture()
    order = np.argsort(truth.experts.coef[0])
    assert (np.diff(whole.log_likelihoods_) > -1e-6).all()
    np.testing.assert_allclose(whole.mixture_.experts.coef, truth.experts.coef[:, order], atol=0.12)
    x, y = draw_counts(1500, 0)
    chosen = select_experts(
        MixtureOfExpertsRegressor(family="poisson", random_state=0, n_init=3, tol=1e-6),
        (1, 2, 3),
        x,
        y,
    )
    assert chosen.n_experts == 2
    assert chosen.degenerate == ()


def test_errors_come_from_the_second_derivatives(whole):
    x, y = draw_counts(1500, 0)
    rows = (add_constant(x), y, np.ones(1500))
    mixture = whole.mixture_

    def value(free: np.ndarray) -> float:
        gate = np.column_stack([free[:3], np.zeros(3)])
        return log_density(
            Mixture(gate, poisson_experts(free[3:].reshape(2, 3).T)), *rows[:2]
        ).sum()

    at = np.concatenate([mixture.gate[:, 0], mixture.experts.coef.T.ravel()])
    steps = 1e-4 * np.eye(9)
    hessian = [
        [(value(at + a + b) - value(at + a - b) - value(at - a + b) + value(at - a - b)) / 4e-8
         for b in steps] for a in steps
    ]  # fmt: skip
    np.testing.assert_allclose(observed_information(mixture, [rows]), -np.array(hessian), atol=0.05)
    found = whole.standard_errors(x, y)
    spread = np.sqrt(np.diag(np.linalg.inv(-np.array(hessian))))
    np.testing.assert_allclose(found["gate"][:, 0], spread[:3], rtol=1e-3)
    np.testing.assert_allclose(found["experts"].T.ravel(), spread[3:], rtol=1e-3)
    assert "log_variances" not in found


@pytest.mark.parametrize("rate", [0.01, 0.7, 3.0, 42.0, 900.0])
def test_quantiles_are_the_least_counts_that_reach(rate):
    levels = np.array([0.001, 0.05, 0.5, 0.9, 0.999])
    found = find_count_quantiles(np.array(rate), levels)
    assert (found == poisson.ppf(levels, rate)).all()


def test_what_is_predicted(whole):
    x, y = draw_counts(4000, 1)
    found = whole.predict_dist(x)
    grid = np.arange(200.0)
    chances = np.stack([found.pdf(np.full(4000, count)) for count in grid], 1)
    np.testing.assert_allclose(chances.sum(1), 1, atol=1e-9)
    np.testing.assert_allclose(found.mean(), chances @ grid, rtol=1e-9)
    np.testing.assert_allclose(found.var(), chances @ grid**2 - found.mean() ** 2, rtol=1e-7)
    np.testing.assert_allclose(found.logpdf(y), whole.log_density(x, y), rtol=1e-9)
    for level in (0.05, 0.5, 0.95):
        reached = chances.cumsum(1) >= level
        assert (found.quantile(level) == reached.argmax(1)).all()
    low, high = found.interval(0.9)
    assert 0.9 <= ((low <= y) & (y <= high)).mean() < 0.96


def test_the_cost_is_the_divergence_and_the_update_its_minimum():
    rng = np.random.default_rng(0)
    x = add_constant(rng.normal(size=(40, 2)))
    local, reduced = (poisson_experts(0.5 * rng.normal(size=(3, size))) for size in (4, 2))
    cost = PoissonKL()
    found, grid = cost.between(x, local, reduced), np.arange(300)
    for k, s, one in ((0, 0, 0), (1, 7, 3), (0, 39, 2)):
        first, second = (np.exp(e.lines(x)[s, at]) for e, at in ((local, one), (reduced, k)))
        logs = poisson.logpmf(grid, first) - poisson.logpmf(grid, second)
        assert found[k, s, one] == pytest.approx((poisson.pmf(grid, first) * logs).sum(), abs=1e-9)
    plan = rng.random((2, 40, 4))
    moved = cost.update(x, plan, local, reduced)
    best = (plan * cost.between(x, local, moved)).sum()
    for _ in range(20):
        near = poisson_experts(moved.coef + 1e-3 * rng.normal(size=(3, 2)))
        assert (plan * cost.between(x, local, near)).sum() >= best


def test_hellinger_is_near_the_sum():
    rng, first = np.random.default_rng(0), count_mixture()
    second = Mixture(first.gate, poisson_experts(first.experts.coef + 0.2))
    x = add_constant(rng.normal(size=(30, 2)))
    roots = [
        np.sqrt(np.exp([log_density(m, x, np.full(30, float(c))) for c in range(400)]))
        for m in (first, second)
    ]
    exact = ((roots[0] - roots[1]) ** 2).sum(0).mean()
    found = squared_hellinger(x, np.full(30, 1 / 30), first, second)
    assert found == pytest.approx(exact, rel=0.25)


@pytest.mark.parametrize("machines", [4, 8])
@pytest.mark.parametrize("split", ["alike", "sorted by the response"])
def test_machines_reduce_to_the_fit_of_all_rows(whole, split, machines):
    x, y = draw_counts(1500, 0)
    test = draw_counts(3000, 2)
    order = np.arange(1500) if split == "alike" else np.argsort(y, kind="stable")
    model = DistributedMixtureOfExpertsRegressor(2, family="poisson", random_state=0, n_init=2)
    if split == "alike":
        model.fit(shards(x, y, machines))
    else:
        with pytest.warns(UserWarning, match="split by the response"):
            model.set_params(screen=False).fit(shards(x[order], y[order], machines))
    far = whole.log_density(*test).mean() - model.log_density(*test).mean()
    assert far < 0.005 * abs(whole.log_density(*test).mean())
    judged = model.assess(shards(x, y, machines))
    assert judged.bic == pytest.approx(model.bic(x, y), rel=1e-9)


def test_counts_go_by_file_and_do_not_mix_with_numbers(whole, tmp_path):
    x, y = draw_counts(1500, 0)
    whole.save(tmp_path)
    there = MixtureOfExpertsRegressor.load(tmp_path)
    assert (there.predict(x) == whole.predict(x)).all()
    normal = MixtureOfExpertsRegressor(2, random_state=0, n_init=1).fit(x, y + 0.1 * x[:, 0])
    model = DistributedMixtureOfExpertsRegressor(2, family="poisson")
    with pytest.raises(ValueError, match="fit all with the same family"):
        model.merge([whole, normal], support=x)


def test_what_is_no_count_is_refused():
    x, y = draw_counts(50, 0)
    for bad in (-1.0, 0.5):
        y[3] = bad
        with pytest.raises(ValueError, match=f"the response {bad} of row 3 is no count"):
            MixtureOfExpertsRegressor(1, family="poisson").fit(x, y)
        with pytest.raises(ValueError, match="is no count"):
            DistributedMixtureOfExpertsRegressor(1, family="poisson").fit([(x, y)])
    y[3] = 0
    with pytest.raises(ValueError, match="family='cauchy' is not known"):
        MixtureOfExpertsRegressor(1, family="cauchy").fit(x, y)
    with pytest.raises(ValueError, match="cost='w2' is not known here"):
        DistributedMixtureOfExpertsRegressor(1, family="poisson", cost="w2").fit([(x, y)])
