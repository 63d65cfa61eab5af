"""The authors' recipe, step by step; figures from their code, in reference_outputs.json."""

import json

import numpy as np
import pytest

from moiety.estimators import DistributedMixtureOfExpertsRegressor, MixtureOfExpertsRegressor
from moiety.mixtures import gates
from moiety.mixtures.cost import ForwardKL
from moiety.mixtures.experts import GaussianExperts
from moiety.mixtures.model import Mixture, add_constant, gate_proba, log_density
from moiety.mixtures.published import fit_published, make_published_start
from moiety.mixtures.transport import TransportProblem, join_experts, transport_experts
from tests.estimators.worlds import data_folder

pytestmark = pytest.mark.needs_data


def known():
    return json.loads((data_folder() / "reference_outputs.json").read_text())["S_fixed_start"]


def set_s():
    data = np.load(data_folder() / "S.npz")
    return data["X"][:6000], data["y"][:6000]


def tertiles(y):
    return np.argsort(np.argsort(y, kind="stable"), kind="stable") * 3 // len(y)


def mixture(record, experts="beta"):
    return Mixture(
        np.array(record["alpha"]),
        GaussianExperts(np.array(record[experts]), np.array(record["sigma2"])),
    )


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        (1, "shard0_after_1_EM_iteration_raw_scale"),
        (2, "shard0_after_2_EM_iterations_raw_scale"),
    ],
)
def test_the_first_steps(steps, name):
    x, y = (part[:1500] for part in set_s())
    start = make_published_start(x, y, tertiles(y), 3)
    found = fit_published(x, y, start, max_iter=steps)
    expected = known()[name]
    np.testing.assert_allclose(found.mixture.gate, expected["alpha"], atol=1e-9)
    np.testing.assert_allclose(found.mixture.experts.coef, expected["beta"], atol=1e-9)
    np.testing.assert_allclose(found.mixture.experts.variances, expected["sigma2"], rtol=1e-9)
    np.testing.assert_allclose(
        found.trace, np.atleast_1d(known()["shard0_after_2_loglik"])[:steps], rtol=1e-10
    )


def test_the_whole_path_of_the_global_fit():
    x, y = set_s()
    found = fit_published(x, y, make_published_start(x, y, tertiles(y), 3))
    expected = known()["global_fit_tol1e-6"]
    assert len(found.trace) == len(expected["loglik_trace"])
    np.testing.assert_allclose(found.trace, expected["loglik_trace"], rtol=1e-8)
    np.testing.assert_allclose(found.mixture.experts.coef, expected["beta"], atol=1e-6)


def local_fits():
    return [mixture(record) for record in known()["local_fits"]]


def problem(exact):
    x = add_constant(set_s()[0][::16])
    fits = local_fits()
    mass = np.concatenate([gate_proba(fit, x) / 4 for fit in fits], 1)
    return TransportProblem(
        x, mass, join_experts(fit.experts for fit in fits), ForwardKL(exact=exact)
    )


def test_the_published_reduction():
    expected = known()["reduction"]
    made = problem(exact=False)
    start = GaussianExperts(
        np.array(expected["initial_experts"]), np.array(expected["initial_variances"])
    )
    done = transport_experts(made, start)
    np.testing.assert_allclose(done.experts.coef, expected["experts"], atol=1e-9)
    np.testing.assert_allclose(done.experts.variances, expected["variances"], rtol=1e-9)
    assert done.trace[0] == pytest.approx(
        expected["objective_sum_over_support_per_iteration"][0], rel=1e-8
    )
    x, y = set_s()
    start_gate = gates.average_gates(local_fits(), np.ones(4))
    gate = gates.fit_posterior_gate(made.x, y[::16], done.mass, start_gate, done.experts)
    np.testing.assert_allclose(gate, expected["gate"], atol=1e-3)
    value = log_density(Mixture(gate, done.experts), add_constant(x), y).sum()
    assert value == pytest.approx(expected["train"]["loglik"], abs=0.02)


def test_the_exact_variance_lowers_the_objective():
    """1.37035, then 1.36508, summed over the 375 support rows; an independent program's figures."""
    expected = known()["reduction"]
    start = GaussianExperts(
        np.array(expected["initial_experts"]), np.array(expected["initial_variances"])
    )
    trace = transport_experts(problem(exact=True), start).trace
    assert trace[0] == pytest.approx(1.37035, abs=1e-5)
    assert trace[-1] == pytest.approx(1.36508, abs=1e-5)


def test_an_estimator_can_use_it():
    x, y = set_s()
    model = MixtureOfExpertsRegressor(3, algorithm="published", init=tertiles(y)).fit(x, y)
    direct = fit_published(x, y, make_published_start(x, y, tertiles(y), 3))
    assert model.log_likelihoods_[-1] == pytest.approx(direct.trace[-1], abs=0.05)
    assert model.log_likelihood(x, y) == pytest.approx(model.log_likelihoods_[-1], rel=1e-9)
    ours = MixtureOfExpertsRegressor(3, random_state=0).fit(x, y).log_likelihood(x, y)
    own = MixtureOfExpertsRegressor(3, algorithm="published", n_init=2, random_state=0).fit(x, y)
    assert -0.2 < own.log_likelihood(x, y) - ours < 1e-6


def test_machines_can_use_it(tmp_path):
    x, y = set_s()
    parts = [(x[p], y[p]) for p in np.array_split(np.arange(6000), 4)]
    model = DistributedMixtureOfExpertsRegressor(
        3, algorithm="published", cost="kl_reference", gate="posterior", n_init=2, random_state=0
    ).fit(parts)
    best = MixtureOfExpertsRegressor(3, random_state=0).fit(x, y).log_likelihood(x, y)
    assert 0 < best - model.log_likelihood(x, y) < 20
    np.save(tmp_path / "rows.npy", np.column_stack([x, y]))
    with pytest.raises(ValueError, match="holds all rows"):
        model.fit([tmp_path / "rows.npy"])
    with pytest.raises(ValueError, match="knows no weights"):
        model.fit([(x, y, np.linspace(1, 2, 6000))])
    with pytest.raises(ValueError, match="algorithm='newton' is not known"):
        MixtureOfExpertsRegressor(3, algorithm="newton").fit(x, y)
