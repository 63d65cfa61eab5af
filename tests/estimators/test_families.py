"""Families of experts beside the normal: one protocol, checked by closed forms and other fits."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize
from sklearn.linear_model import GammaRegressor, LogisticRegression

from moiety.estimators import (
    DistributedMixtureOfExpertsRegressor,
    MixtureOfExpertsRegressor,
    select_experts,
)
from moiety.mixtures.cost import find_law_costs
from moiety.mixtures.laws import find_law
from moiety.mixtures.linked import LinkedExperts
from moiety.mixtures.model import Mixture, add_constant, gate_proba
from tests.estimators.worlds import shards

LAWS = [find_law("poisson"), find_law("binomial", 7), find_law("negative_binomial"),
        find_law("gamma"), find_law("student")]  # fmt: skip
SPREADS = {"negative_binomial": [[3.0, 8.0]], "gamma": [[4.0, 9.0]],
           "student": [[0.3, 0.1], [3.0, 9.0]]}  # fmt: skip


def frozen(law, lines, spreads) -> Any:
    """Give scipy's twin of a law."""
    rates = np.exp(lines)
    if law.name == "binomial":
        return stats.binom(law.trials, 1 / (1 + np.exp(-lines)))
    if law.name == "negative_binomial":
        return stats.nbinom(spreads[0], spreads[0] / (spreads[0] + rates))
    if law.name == "gamma":
        return stats.gamma(spreads[0], scale=rates / spreads[0])
    if law.name == "student":
        return stats.t(spreads[1], lines, np.sqrt(spreads[0]))
    return stats.poisson(rates)


def truth(law) -> Mixture[LinkedExperts]:
    gate = np.array([[0.2, 0.0], [2.5, 0.0], [0.0, 0.0]])
    coef = np.array([[1.6, -0.6], [0.2, 0.0], [-0.6, 0.5]])
    spreads = np.array(SPREADS.get(law.name, np.zeros((0, 2))))
    return Mixture(gate, LinkedExperts(coef, spreads, law))


def draw(law, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    mixture, rng = truth(law), np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2))
    ready = add_constant(x)
    label = (rng.random(rows) > gate_proba(mixture, ready)[:, 0]).astype(int)
    lines = mixture.experts.lines(ready)[np.arange(rows), label]
    return x, law.draw(lines, mixture.experts.spreads[:, label], rng)


def make(law, experts: int, **options):
    trials = getattr(law, "trials", 1)
    return MixtureOfExpertsRegressor(
        experts, family=law.name, trials=trials, random_state=0, n_init=3, **options
    )


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_a_law_is_scipys(law):
    rng = np.random.default_rng(0)
    lines = rng.normal(size=(50, 2))
    spreads = np.array(SPREADS.get(law.name, np.zeros((0, 2))))
    twin = frozen(law, lines, spreads)
    y = np.array(twin.rvs(random_state=1), float)
    density = twin.logpmf(y) if law.whole else twin.logpdf(y)
    np.testing.assert_allclose(law.log_density(lines, y, spreads), density, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(law.mean(lines, spreads), twin.mean(), rtol=1e-9)
    np.testing.assert_allclose(law.variance(lines, spreads), twin.var(), rtol=1e-9)
    np.testing.assert_allclose(law.cdf(lines, y, spreads), twin.cdf(y), rtol=1e-7, atol=1e-12)
    for level in (0.05, 0.5, 0.97):
        found = law.quantile(lines, np.array(level), spreads)
        np.testing.assert_allclose(found, twin.ppf(level), rtol=1e-8, atol=1e-8)
    many = law.draw(np.repeat(lines[:1], 20_000, 0), np.repeat(spreads[:, None], 20_000, 1), rng)
    far = (many.mean(0) - twin.mean()[0]) / np.sqrt(twin.var()[0] / 20_000)
    assert np.abs(far).max() < 4.5


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_derivatives_are_those_of_the_log_density(law):
    rng = np.random.default_rng(0)
    lines, spreads = rng.normal(size=(8, 2)), np.array(SPREADS.get(law.name, np.zeros((0, 2))))
    y = np.array(frozen(law, lines[:, :1], spreads[:, :1]).rvs(random_state=1), float)
    found, size = law.differentiate(lines, y, spreads), 1 + len(spreads)

    def value(moves):
        return law.log_density(lines + moves[0], y, spreads * np.exp(moves[1:, None]))

    steps = 1e-4 * np.eye(size)
    slopes = np.stack([(value(a) - value(-a)) / 2e-4 for a in steps])
    bends = np.stack(
        [[(value(a - b) + value(b - a) - value(a + b) - value(-a - b)) / 4e-8 for b in steps]
         for a in steps]
    )  # fmt: skip
    np.testing.assert_allclose(np.stack([found.line, *found.spreads]), slopes, atol=1e-5)
    np.testing.assert_allclose(found.bend, bends[0, 0], atol=1e-5)
    for p in range(size - 1):
        np.testing.assert_allclose(found.cross[p], bends[0, 1 + p], atol=1e-5)
        np.testing.assert_allclose(found.bends[p], bends[1 + p, 1:], atol=1e-5)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_the_cost_is_the_divergence(law):
    """As the sum or the integral of scipy's densities has it."""
    first, second = 0.7, 1.1
    spreads = np.array(SPREADS.get(law.name, np.zeros((0, 2))))[:, :1]
    local = LinkedExperts(np.array([[first], [0.3]]), spreads, law)
    reduced = LinkedExperts(np.array([[second], [-0.1]]), 1.6 * spreads, law)
    x = add_constant(np.linspace(-1, 1, 21)[:, None])  # in row 10 the covariate is 0
    found = find_law_costs(law)["kl"].between(x, local, reduced)[0, 10, 0]
    twin, other = frozen(law, first, spreads[:, 0]), frozen(law, second, 1.6 * spreads[:, 0])
    if law.whole:
        grid = np.arange(8.0 if law.name == "binomial" else 400.0)
        exact = (twin.pmf(grid) * (twin.logpmf(grid) - other.logpmf(grid))).sum()
    else:
        grid = twin.ppf((np.arange(50_000) + 0.5) / 50_000)
        exact = (twin.logpdf(grid) - other.logpdf(grid)).mean()
    assert found == pytest.approx(exact, rel=0.005)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_the_update_is_a_minimum(law):
    rng = np.random.default_rng(0)
    x, plan = add_constant(rng.normal(size=(40, 2))), rng.random((2, 40, 4))
    spreads = np.array(SPREADS.get(law.name, np.zeros((0, 2))))
    local = LinkedExperts(0.4 * rng.normal(size=(3, 4)), spreads[:, [0, 1, 0, 1]], law)
    cost = find_law_costs(law)["kl"]
    moved = cost.update(x, plan, local, local.pick(np.array([0, 1])))
    best = (plan * cost.between(x, local, moved)).sum()
    for _ in range(10):
        near = replace(
            moved,
            coef=moved.coef + 1e-2 * rng.normal(size=(3, 2)),
            spreads=moved.spreads * np.exp(1e-2 * rng.normal(size=spreads.shape)),
        )
        assert (plan * cost.between(x, local, near)).sum() >= best


def fit_by_scipy(law, x, y):
    """Maximise the likelihood of one expert by a general optimiser."""
    spreads = len(law.spread_names)
    ready = add_constant(x)

    def loss(free):
        twin = frozen(law, ready @ free[:3], np.exp(free[3:]))
        return -(twin.logpmf(y) if law.whole else twin.logpdf(y)).sum()

    begin = np.append(np.linalg.lstsq(ready, law.link(y), rcond=None)[0], np.zeros(spreads))
    return minimize(loss, begin, method="BFGS", options={"gtol": 1e-4})


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_one_expert_is_the_maximum_and_its_errors_are_right(law):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 2))
    spreads = np.array(SPREADS.get(law.name, np.zeros((0, 2))))[:, :1]
    y = law.draw(0.4 + x @ [0.5, -0.3], np.broadcast_to(spreads, (len(spreads), 400)), rng)
    model, best = make(law, 1, ridge=0, tol=1e-12).fit(x, y), fit_by_scipy(law, x, y)
    assert model.log_likelihood(x, y) >= -best.fun - 1e-5
    found = np.concatenate(
        [model.mixture_.experts.coef[:, 0], *np.log(model.mixture_.experts.spreads)]
    )
    errors = model.standard_errors(x, y)
    wide = np.concatenate(
        [errors["experts"][:, 0], *(errors[f"log_{n}"] for n in law.spread_names)]
    )
    assert (np.abs(found - best.x) < 0.02 * wide).all()
    np.testing.assert_allclose(wide[:3], np.sqrt(np.diag(best.hess_inv))[:3], rtol=0.15)
    assert model.bic(x, y) == pytest.approx(2 * best.fun + len(best.x) * np.log(400), abs=1e-4)


def test_one_expert_is_scikit_learns():
    law = find_law("gamma")
    x, y = draw(law, 300, 0)
    weights = np.random.default_rng(0).uniform(0.5, 2, 300)
    model = make(law, 1, ridge=0).fit(x, y, weights)
    plain = GammaRegressor(alpha=0, tol=1e-10, max_iter=500).fit(x, y, weights)
    np.testing.assert_allclose(model.coef_[0], plain.coef_, atol=1e-4)
    law = find_law("binomial", 7)
    x, y = draw(law, 300, 0)
    model = make(law, 1, ridge=0).fit(x, y)
    twice = np.concatenate([np.ones(300), np.zeros(300)])
    plain = LogisticRegression(C=np.inf, tol=1e-8).fit(
        np.concatenate([x, x]), twice, np.concatenate([y, 7 - y])
    )
    np.testing.assert_allclose(model.coef_, plain.coef_, atol=1e-4)


@pytest.fixture(scope="module", params=LAWS[1:], ids=lambda law: law.name)
def world(request):
    law = request.param
    x, y = draw(law, 1600, 0)
    return law, x, y, make(law, 2, tol=1e-7).fit(x, y)


def test_two_laws_are_found(world):
    law, x, y, model = world
    best = truth(law)
    order = np.argsort(best.experts.coef[0])
    assert (np.diff(model.log_likelihoods_) > -1e-6).all()
    errors = model.standard_errors(x, y)
    far = (model.mixture_.experts.coef - best.experts.coef[:, order]) / errors["experts"]
    assert np.abs(far).max() < 4
    for name, values, true in zip(
        law.spread_names, model.mixture_.experts.spreads, best.experts.spreads, strict=True
    ):
        assert (np.abs(np.log(values / true[order])) < 4 * errors[f"log_{name}"]).all()
        assert (model.spreads_[name] == values).all()


def test_what_is_predicted_of_rows_kept_apart(world):
    law, _, _, model = world
    x, y = draw(law, 3000, 1)
    found = model.predict_dist(x)
    low, high = found.interval(0.9)
    cover = ((low <= y) & (y <= high)).mean()
    assert 0.88 < cover < (1.0 if law.whole else 0.92)
    levels = found.quantile([0.1, 0.5])
    assert (levels[:, 1] == found.quantile(0.5)).all()
    assert (found.cdf(levels[:, 0]) >= 0.1 - 1e-9).all()
    np.testing.assert_allclose(found.logpdf(y), model.log_density(x, y), rtol=1e-9)
    drawn = found.sample(30, random_state=0)
    assert drawn.shape == (3000, 30)
    assert ((drawn <= levels[:, :1]).mean() - found.cdf(levels[:, 0]).mean()) == pytest.approx(
        0, abs=0.01
    )


def test_a_stream_comes_near_the_fit_of_all_rows(world):
    law, x, y, model = world
    stream, test = make(law, 2, tol=1e-5), draw(law, 2000, 2)
    for part in np.array_split(np.arange(len(y)), 4):
        stream.partial_fit(x[part], y[part])
    gap = model.log_density(*test).mean() - stream.log_density(*test).mean()
    assert gap < 0.02


def test_machines_reduce_to_the_fit_of_all_rows(world):
    law, x, y, model = world
    test = draw(law, 3000, 2)
    there = DistributedMixtureOfExpertsRegressor(
        2,
        family=law.name,
        trials=getattr(law, "trials", 1),
        random_state=0,
        n_init=2,
        tol=1e-7,
        n_support=300,
    ).fit(shards(x, y, 4))
    best = model.log_density(*test).mean()
    assert best - there.log_density(*test).mean() < 0.02 * abs(best)
    assert np.diff(there.objective_).max(initial=0) < 1e-9
    judged = there.assess(shards(x, y, 4))
    assert judged.bic == pytest.approx(there.bic(x, y), rel=1e-9)
    alone = there.standard_errors(x, y)
    for name, values in judged.standard_errors.items():
        np.testing.assert_allclose(values, alone[name], rtol=1e-4)


def test_fits_go_by_file_with_their_law(world, tmp_path):
    law, x, _, model = world
    model.save(tmp_path)
    there = MixtureOfExpertsRegressor.load(tmp_path)
    assert there.mixture_.experts.law == law
    assert (there.predict_dist(x).var() == model.predict_dist(x).var()).all()
    trials = getattr(law, "trials", 1)
    merged = DistributedMixtureOfExpertsRegressor(2, family=law.name, trials=trials).merge(
        [tmp_path, there], support=x[:200]
    )
    np.testing.assert_allclose(merged.predict(x), model.predict(x), rtol=1e-4)


def test_the_number_of_experts_is_found():
    law = find_law("gamma")
    x, y = draw(law, 800, 0)
    chosen = select_experts(make(law, 1, tol=1e-6), (1, 2, 3), x, y)
    assert (chosen.n_experts, chosen.degenerate) == (2, ())


def test_one_wild_response_owns_no_expert_of_students():
    """The normal family gives a response of 1e6 an expert, and the mean with it."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 1))
    y = np.where(x[:, 0] > 0, 3 + x[:, 0], -3 - x[:, 0]) + 0.3 * rng.normal(size=500)
    clean, y[7] = y.copy(), 1e6
    model = make(find_law("student"), 2).fit(x, y)
    rest = np.arange(500) != 7
    assert np.sqrt(np.mean((model.predict(x) - clean)[rest] ** 2)) < 1.0


@pytest.mark.parametrize(
    ("family", "bad", "says"),
    [
        ("gamma", 0.0, "is not above 0"),
        ("negative_binomial", 0.5, "is no count"),
        ("binomial", 8.0, "is more than trials=7"),
    ],
)
def test_responses_that_a_law_cannot_give_are_refused(family, bad, says):
    x, y = np.random.default_rng(0).normal(size=(40, 1)), np.ones(40)
    y[3] = bad
    trials = 7 if family == "binomial" else 1
    for model, rows in (
        (MixtureOfExpertsRegressor(1, family=family, trials=trials), (x, y)),
        (DistributedMixtureOfExpertsRegressor(1, family=family, trials=trials), ([(x, y)],)),
    ):
        with pytest.raises(ValueError, match=f"the response {bad} of row 3 {says}"):
            model.fit(*rows)
    with pytest.raises(ValueError, match="trials=7 is of family='binomial' alone"):
        MixtureOfExpertsRegressor(1, family="gamma", trials=7).fit(x, y)
