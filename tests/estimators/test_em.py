"""The fit: sums, steps, maxima known from three programs."""

import json
from typing import Any

import numpy as np
import pytest

from moiety.estimators import MixtureOfExpertsRegressor
from moiety.mixtures.climb import revive_expert, run_em
from moiety.mixtures.em import (
    Prior,
    compute_penalised_likelihood,
    make_m_step,
    sum_rows,
)
from moiety.mixtures.experts import GaussianExperts
from moiety.mixtures.information import observed_information
from moiety.mixtures.logit import fit_logit, solve_symmetric
from moiety.mixtures.model import Mixture, add_constant, log_density, responsibilities
from moiety.mixtures.scale import (
    compute_moments,
    make_standard_scale,
    pool_moments,
    restore_units,
    standardise_mixture,
    standardise_pair,
)
from tests.estimators.worlds import categorical_mixture, data_folder, draw, gaussian_mixture


def block(mixture, rows=300, seed=0):
    x, y = draw(mixture, rows, seed)
    return add_constant(x), y.astype(float), np.random.default_rng(seed).uniform(0.5, 2, rows)


def slow_sums(mixture, x, y, weights):
    """One row and one pair of classes at a time."""
    free, columns = mixture.num_experts - 1, x.shape[1]
    info = np.zeros((free, columns, free, columns))
    slope, value = np.zeros((columns, free)), 0.0
    for row, target, weight in zip(x, y, weights, strict=True):
        scores = np.exp(row @ mixture.gate)
        probs = scores / scores.sum()
        own = [
            np.exp(-((target - row @ mixture.experts.coef[:, k]) ** 2) / (2 * variance))
            / np.sqrt(2 * np.pi * variance)
            for k, variance in enumerate(mixture.experts.variances)
        ]
        density = sum(p * o for p, o in zip(probs, own, strict=True))
        value += weight * np.log(density)
        for j in range(free):
            slope[:, j] += weight * (probs[j] * own[j] / density - probs[j]) * row
            for k in range(free):
                bend = probs[j] * ((j == k) - probs[k])
                info[j, :, k] += weight * bend * np.outer(row, row)
    return value, slope, info.reshape(free * columns, -1)


def test_the_sums_agree_with_a_loop_over_rows():
    mixture = gaussian_mixture(0, experts=3)
    rows = block(mixture)
    sums = sum_rows(mixture, [rows])
    value, slope, info = slow_sums(mixture, *rows)
    from moiety.mixtures.em import assemble_gate_information

    assert float(sums["loglik"]) == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(sums["slopes"][:, :2], slope, atol=1e-10)
    np.testing.assert_allclose(assemble_gate_information(mixture, sums), info, atol=1e-10)


def test_sums_of_blocks_add():
    mixture = gaussian_mixture(1)
    x, y, weights = block(mixture, rows=2500)
    parts = [
        (x[at : at + 700], y[at : at + 700], weights[at : at + 700]) for at in range(0, 2500, 700)
    ]
    whole, added = sum_rows(mixture, [(x, y, weights)]), sum_rows(mixture, parts)
    for name in whole:
        np.testing.assert_allclose(whole[name], added[name], rtol=1e-10, atol=1e-9)


def test_one_gaussian_expert_is_weighted_least_squares():
    x, y, weights = block(gaussian_mixture(2, experts=2))
    start = Mixture(np.zeros((3, 1)), GaussianExperts(np.ones((3, 1)), np.ones(1)))
    found = make_m_step(start, sum_rows(start, [(x, y, weights)]), Prior())
    root = np.sqrt(weights)
    coef = np.linalg.lstsq(x * root[:, None], y * root, rcond=None)[0]
    np.testing.assert_allclose(found.experts.coef[:, 0], coef, rtol=1e-10)
    expected = weights @ (y - x @ coef) ** 2 / weights.sum()
    assert found.experts.variances[0] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("make", [gaussian_mixture, categorical_mixture])
@pytest.mark.parametrize("seed", range(4))
def test_the_objective_never_falls(make, seed):
    truth, prior = make(seed), Prior()
    rows = block(truth, rows=400, seed=seed)
    start, values = make(seed + 50), []

    def watched(mixture):
        sums = sum_rows(mixture, [rows])
        values.append((mixture, compute_penalised_likelihood(mixture, sums, prior)))
        return sums

    fit = run_em(watched, start, prior=prior, max_iter=60)
    best = compute_penalised_likelihood(fit.mixture, fit.sums, prior)
    assert best >= values[0][1]
    assert best == pytest.approx(max(value for _, value in values), rel=1e-11)


def test_a_revival_never_costs_likelihood():
    """With 30 rows for 4 experts some empty; the end is the best place ever looked at."""
    prior, revived = Prior(), 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        rows = (add_constant(rng.normal(size=(30, 2))), rng.normal(size=30), np.ones(30))
        start, values, masses = gaussian_mixture(seed, experts=4), [], []

        def watched(mixture, rows=rows, values=values, masses=masses):
            sums = sum_rows(mixture, [rows])
            values.append(compute_penalised_likelihood(mixture, sums, prior))
            masses.append(sums["mass"].min())
            return sums

        fit = run_em(watched, start, prior=prior, max_iter=200)
        revived += min(masses) < 4
        assert compute_penalised_likelihood(fit.mixture, fit.sums, prior) >= max(
            values
        ) - 1e-9 * abs(max(values))
        assert fit.trace[-1] == fit.sums["loglik"]
        assert len(fit.trace) <= 201
    assert revived > 20


def test_a_likelihood_that_is_not_finite_is_refused():
    start = Mixture(np.zeros((2, 1)), GaussianExperts(np.full((2, 1), np.nan), np.ones(1)))
    rows = (np.ones((3, 2)), np.ones(3), np.ones(3))
    with pytest.raises(FloatingPointError, match="start"):
        run_em(lambda mixture: sum_rows(mixture, [rows]), start)


def test_an_empty_expert_is_put_where_most_is_unexplained():
    mixture = gaussian_mixture(3)
    sums = dict(sum_rows(mixture, [block(mixture)]))
    sums["mass"] = np.array([100.0, 0.0, 200.0])
    sums["squares"] = np.array([10.0, 0.0, 800.0])
    moved = revive_expert(mixture, sums)
    expected = mixture.experts.coef[:, 2] + np.array([2.0, 0, 0])  # sqrt(800 / 200)
    np.testing.assert_allclose(moved.experts.coef[:, 1], expected)


def test_moments_pool_and_units_return():
    rng = np.random.default_rng(0)
    x, y, weights = rng.normal(5, 2, (50, 3)), rng.normal(size=50), rng.uniform(0.1, 1, 50)
    x[:, 1] = 4.0
    whole = compute_moments(x, y, weights)
    both = pool_moments(
        compute_moments(x[:20], y[:20], weights[:20]), compute_moments(x[20:], y[20:], weights[20:])
    )
    np.testing.assert_allclose(both.square, whole.square, atol=1e-10)
    scale = make_standard_scale(both)
    assert scale.kept.tolist() == [True, False, True]
    mixture = gaussian_mixture(4, width=2)
    plain = restore_units(mixture, scale)
    assert (plain.experts.coef[2] == 0).all()
    back = standardise_mixture(plain, scale)
    np.testing.assert_allclose(back.gate, mixture.gate, atol=1e-12)
    np.testing.assert_allclose(back.experts.coef, mixture.experts.coef, atol=1e-12)
    ready, target = standardise_pair(scale, x, y)
    gain = log_density(mixture, ready, target) - log_density(plain, add_constant(x), y)
    np.testing.assert_allclose(gain, np.log(scale.factor), rtol=1e-9)


def test_a_singular_system_has_the_least_solution():
    found = solve_symmetric(np.diag([2.0, 0.0]), np.array([4.0, 0.0]))
    np.testing.assert_allclose(found, [2.0, 0.0])


def test_a_logit_of_two_groups_by_hand():
    x = add_constant(np.array([[0.0], [1.0]]))
    target = np.array([[0.5, 0.5], [0.8, 0.2]])
    found = fit_logit(x, target, np.ones(2), np.zeros((2, 2)))
    np.testing.assert_allclose(found[:, 0], [0.0, np.log(4.0)], atol=1e-7)


def test_the_information_is_the_bend_of_the_likelihood():
    for make in (gaussian_mixture, categorical_mixture):
        mixture = make(5, experts=2)
        x, y, weights = block(mixture, rows=120)
        info = observed_information(mixture, [(x, y, weights)])
        bend = numeric_bend(mixture, x, y, weights)
        np.testing.assert_allclose(info, bend, atol=2e-3 * np.abs(bend).max())


def numeric_bend(mixture, x, y, weights, step=1e-4):
    """Difference the log-likelihood twice."""
    start = packed(mixture)

    def value(theta):
        return weights @ log_density(unpacked(theta, mixture), x, y)

    size = len(start)
    eye, bend = step * np.eye(size), np.empty((size, size))
    for i in range(size):
        for j in range(size):
            signs = ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
            total = sum(s * value(start + a * eye[i] + b * eye[j]) for a, b, s in signs)
            bend[i, j] = -total / (4 * step**2)
    return bend


def packed(mixture):
    parts = [mixture.gate[:, :-1].T.ravel()]
    for k in range(mixture.num_experts):
        coef = mixture.experts.coef[:, k]
        parts.append(coef if coef.ndim == 1 else coef[:, :-1].T.ravel())
        if isinstance(mixture.experts, GaussianExperts):
            parts.append([np.log(mixture.experts.variances[k])])
    return np.concatenate(parts)


def unpacked(theta, like):
    columns, experts = like.gate.shape
    gate = np.zeros_like(like.gate)
    cut = columns * (experts - 1)
    gate[:, :-1] = theta[:cut].reshape(experts - 1, columns).T
    rest = theta[cut:].reshape(experts, -1)
    if isinstance(like.experts, GaussianExperts):
        return Mixture(gate, GaussianExperts(rest[:, :-1].T, np.exp(rest[:, -1])))
    coef = np.zeros_like(like.experts.coef)
    coef[..., :-1] = rest.reshape(experts, -1, columns).transpose(2, 0, 1)
    return Mixture(gate, type(like.experts)(coef))


def reference():
    return json.loads((data_folder() / "reference_outputs.json").read_text())


def training(name):
    data = np.load(data_folder() / f"{name}.npz")
    cut = int(data["n_train"])
    return data["X"][:cut], data["y"][:cut]


@pytest.mark.needs_data
def test_set_s_reaches_the_known_maximum():
    """Source: the independent maximum and flexmix's criteria in reference_outputs.json."""
    x, y = training("S")
    labels = np.argsort(np.argsort(y, kind="stable")) * 3 // len(y)
    model = MixtureOfExpertsRegressor(3, init=labels, tol=1e-11).fit(x, y)
    known = reference()["S_mle_independent"]
    assert model.log_likelihood(x, y) >= -11026.9703
    np.testing.assert_allclose(model.intercept_, known["beta"][0], atol=2e-4)
    np.testing.assert_allclose(model.mixture_.gate, known["alpha"], atol=2e-3)
    assert model.bic(x, y) == pytest.approx(known["BIC"], abs=1e-3)
    assert model.aic(x, y) == pytest.approx(known["AIC"], abs=1e-3)
    assert model.icl(x, y) == pytest.approx(known["ICL_hard"], abs=0.1)
    assert model.icl(x, y, hard=False) == pytest.approx(known["ICL_soft"], abs=0.2)


@pytest.mark.needs_data
def test_set_s_standard_errors_are_the_known_ones():
    """Source: errors from the observed information in reference_outputs.json."""
    x, y = training("S")
    known = reference()["S_mle_independent"]
    model: Any = MixtureOfExpertsRegressor(3)
    model.mixture_ = Mixture(
        np.array(known["alpha"]),
        GaussianExperts(np.array(known["beta"]), np.array(known["sigma2"])),
    )
    model.n_features_in_ = 2
    found = model.standard_errors(x, y)
    flat = [found["gate"].T.ravel(), found["experts"].T.ravel(), found["log_variances"]]
    np.testing.assert_allclose(np.concatenate(flat), known["se_observed_information"], rtol=1e-6)


@pytest.mark.needs_data
def test_set_p_reaches_the_known_maximum():
    """Source: three programs agree on -87,994.4536."""
    x, y = training("P")
    labels = np.load(data_folder() / "P_init_labels.npz")["global_labels"]
    model = MixtureOfExpertsRegressor(4, init=labels, tol=1e-10).fit(x, y)
    assert model.log_likelihood(x, y) >= -87994.454
    assert model.n_parameters_ == 151


def test_responsibilities_sum_to_one():
    mixture = gaussian_mixture(6)
    x, y, _ = block(mixture)
    np.testing.assert_allclose(responsibilities(mixture, x, y).sum(1), 1.0)
