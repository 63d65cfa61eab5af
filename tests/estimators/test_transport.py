"""The reduction: it never loses, it is exact, and nothing but the fits matters."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from moiety.mixtures import gates
from moiety.mixtures.align import measure_divergence, solve_assignment
from moiety.mixtures.baselines import average_mixtures, choose_middle_mixture
from moiety.mixtures.cost import CATEGORICAL_COSTS, GAUSSIAN_COSTS, ForwardKL
from moiety.mixtures.experts import GaussianExperts
from moiety.mixtures.inputs import LocalFit, Support
from moiety.mixtures.logit import log_sum_exp
from moiety.mixtures.model import Mixture, add_constant, gate_proba, log_density, reorder_experts
from moiety.mixtures.reduce import (
    ReductionConfig,
    reduce_mixtures,
)
from moiety.mixtures.screen import screen_fits
from moiety.mixtures.transport import (
    TransportProblem,
    join_experts,
    plan_transport,
    spread_mass,
    transport_experts,
)
from tests.estimators.worlds import categorical_mixture, gaussian_mixture

EXACT = [("kl", 0), ("reverse_kl", 0), ("w2", 0), ("kl", 3)]


def problem(seed, cost, classes, machines=3, rows=60):
    make = categorical_mixture if classes else gaussian_mixture
    known: dict[str, Any] = {**(CATEGORICAL_COSTS if classes else GAUSSIAN_COSTS)}
    mixtures = [make(seed * 10 + at) for at in range(machines)]
    x = add_constant(np.random.default_rng(seed).normal(size=(rows, 2)))
    mass = np.concatenate([gate_proba(m, x) for m in mixtures], 1) / (machines * rows)
    return TransportProblem(x, mass, join_experts(m.experts for m in mixtures), known[cost])


@pytest.mark.parametrize(("cost", "classes"), EXACT)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 5))
def test_the_objective_never_rises(cost, classes, seed, size):
    made = problem(seed, cost, classes)
    start = made.experts.pick(np.random.default_rng(seed).choice(6, size, replace=False))
    trace = np.array(transport_experts(made, start, max_iter=30).trace)
    assert (np.diff(trace) <= 1e-12 * np.abs(trace[:-1]) + 1e-15).all()


def test_the_published_variance_can_raise_the_objective():
    rises = 0
    for seed in range(30):
        made = problem(seed, "kl_reference", 0)
        trace = np.array(
            transport_experts(made, made.experts.pick(np.arange(2)), max_iter=10).trace
        )
        rises += bool((np.diff(trace) > 1e-9).any())
    assert rises > 0


@pytest.mark.parametrize("cost", ["kl", "reverse_kl", "w2"])
def test_an_update_is_the_minimum_for_its_plan(cost):
    made = problem(1, cost, 0)
    start = made.experts.pick(np.array([0, 3]))
    masses = spread_mass(made, plan_transport(made, start), 2)
    best: Any = made.cost.update(made.x, masses, made.experts, start)

    def paid(experts):
        return (masses * made.cost.between(made.x, made.experts, experts)).sum()

    rng = np.random.default_rng(0)
    for _ in range(50):
        coef = best.coef + 1e-3 * rng.normal(size=best.coef.shape)
        variances = best.variances * np.exp(1e-3 * rng.normal(size=2))
        assert paid(best) <= paid(GaussianExperts(coef, variances)) + 1e-15


def test_costs_at_one_row_by_hand():
    one, two = (
        GaussianExperts(np.array([[1.0]]), np.array([1.0])),
        GaussianExperts(np.array([[3.0]]), np.array([4.0])),
    )
    x = np.ones((1, 1))
    found = {
        name: float(GAUSSIAN_COSTS[name].between(x, one, two)[0, 0, 0]) for name in GAUSSIAN_COSTS
    }
    assert found["kl"] == pytest.approx(0.5 * (np.log(4) + 1 / 4 - 1 + 4 / 4))
    assert found["reverse_kl"] == pytest.approx(0.5 * (-np.log(4) + 4 - 1 + 4))
    assert found["w2"] == pytest.approx(4 + 1)


@pytest.mark.parametrize("seed", range(5))
def test_the_cost_bounds_the_divergence_of_mixtures(seed):
    """The log-sum inequality: KL(f_W, g) <= T(f_W, g); KL by quadrature over y."""
    first, second = gaussian_mixture(seed), gaussian_mixture(seed + 20)
    x = add_constant(np.random.default_rng(seed).normal(size=(4, 2)))
    y = np.linspace(-80, 80, 40_001)
    for row in x:
        rows = np.repeat(row[None], len(y), 0)
        log_f, log_g = log_density(first, rows, y), log_density(second, rows, y)
        apart = np.trapezoid(np.exp(log_f) * (log_f - log_g), y)
        one = row[None]
        cost = ForwardKL().between(one, first.experts, second.experts)[:, 0]
        plans = optimal_plan(cost.T, gate_proba(first, one)[0], gate_proba(second, one)[0])
        assert apart <= plans + 1e-6


def optimal_plan(cost, left, right):
    """Solve the small transport problem as a linear programme."""
    from scipy.optimize import linprog

    size = len(left)
    rows = [np.kron(np.eye(size)[i], np.ones(size)) for i in range(size)]
    columns = [np.kron(np.ones(size), np.eye(size)[i]) for i in range(size)]
    done = linprog(
        cost.ravel(),
        A_eq=np.array(rows + columns[:-1]),
        b_eq=np.concatenate([left, right[:-1]]),
        bounds=(0, None),
    )
    return done.fun


def test_assignments_agree_with_scipy():
    rng = np.random.default_rng(0)
    for size in (1, 2, 3, 5, 8):
        for _ in range(20):
            cost = rng.normal(size=(size, size))
            assert solve_assignment(cost).tolist() == linear_sum_assignment(cost)[1].tolist()


def support(seed=0, rows=200, width=2):
    return Support(np.random.default_rng(seed).normal(size=(rows, width)), np.ones(rows))


@pytest.mark.parametrize("gate", ["projection", "average", "information"])
def test_one_machine_gets_its_own_fit_back(gate):
    mixture = reorder_experts(gaussian_mixture(7), np.argsort(gaussian_mixture(7).experts.coef[0]))
    done = reduce_mixtures(
        [LocalFit(mixture, 100)], support(), ReductionConfig(3, gate=gate), np.random.default_rng(0)
    )
    assert done.trace[-1] == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(done.mixture.experts.coef, mixture.experts.coef, atol=1e-9)
    np.testing.assert_allclose(done.mixture.experts.variances, mixture.experts.variances, rtol=1e-9)
    np.testing.assert_allclose(done.mixture.gate, mixture.gate, atol=1e-6)


def near(seed, noise=0.05):
    rng, base = np.random.default_rng(seed), gaussian_mixture(8)
    gate = base.gate + noise * rng.normal(size=base.gate.shape)
    gate[:, -1] = 0
    coef = base.experts.coef + noise * rng.normal(size=base.experts.coef.shape)
    return Mixture(gate, GaussianExperts(coef, base.experts.variances))


def merged(mixtures, rows, gate="information"):
    locals_ = [LocalFit(m, n) for m, n in zip(mixtures, rows, strict=True)]
    return reduce_mixtures(
        locals_, support(), ReductionConfig(3, gate=gate), np.random.default_rng(0)
    ).mixture


@pytest.mark.parametrize("gate", ["projection", "average", "information"])
def test_order_and_splitting_do_not_matter(gate):
    fits = [near(seed) for seed in range(4)]
    known = merged(fits, [100] * 4, gate)
    permuted = [
        reorder_experts(m, np.random.default_rng(at).permutation(3)) for at, m in enumerate(fits)
    ]
    swapped = merged(permuted[::-1], [100] * 4, gate)
    halved = merged([fits[0], *fits], [50, 50, 100, 100, 100], gate)
    for other in (swapped, halved):
        np.testing.assert_allclose(other.experts.coef, known.experts.coef, atol=1e-6)
        np.testing.assert_allclose(other.experts.variances, known.experts.variances, rtol=1e-6)
        np.testing.assert_allclose(other.gate, known.gate, atol=1e-5)


def test_information_in_another_order_is_information_of_the_other_order():
    mixture, x = gaussian_mixture(9), add_constant(support().x)
    order, weights = np.array([2, 0, 1]), np.full(200, 1 / 200)
    direct = gates.evaluate_gate_information(reorder_experts(mixture, order), x, weights)
    moved = gates.reorder_information(gates.evaluate_gate_information(mixture, x, weights), order)
    np.testing.assert_allclose(moved, direct, atol=1e-12)


def test_weights_of_the_support_count():
    fits = [near(seed) for seed in range(3)]
    few = support()
    twice = Support(np.concatenate([few.x, few.x[:50]]), np.ones(250))
    heavy = Support(few.x, np.concatenate([np.full(50, 2.0), np.ones(150)]))
    found = [
        reduce_mixtures(
            [LocalFit(m, 1.0) for m in fits],
            s,
            ReductionConfig(3, gate="projection"),
            np.random.default_rng(0),
        ).mixture
        for s in (twice, heavy)
    ]
    np.testing.assert_allclose(found[0].experts.coef, found[1].experts.coef, atol=1e-8)


def test_a_strange_fit_is_left_out_and_few_are_all_kept():
    fits = [near(seed) for seed in range(6)]
    strange = gaussian_mixture(77)
    locals_ = [LocalFit(m, 100) for m in [*fits, strange]]
    done = reduce_mixtures(locals_, support(), ReductionConfig(3), np.random.default_rng(0))
    assert done.kept.tolist() == [True] * 6 + [False]
    two = np.array([[0.0, 9.0], [9.0, 0.0]])
    assert screen_fits(two, np.ones(2)).all()


def test_a_small_machine_is_not_strange():
    rows = np.array([1000.0, 1000, 1000, 10, 1000])
    distance = 1 / rows[:, None] + 1 / rows
    assert screen_fits(distance, rows).all()
    distance[3, :] *= 30
    distance[:, 3] *= 30
    assert screen_fits(distance, rows).tolist() == [True, True, True, False, True]


def test_local_fits_may_have_other_numbers_of_experts():
    fits = [gaussian_mixture(8), gaussian_mixture(8, experts=2), gaussian_mixture(8, experts=4)]
    done = reduce_mixtures(
        [LocalFit(m, 1.0) for m in fits],
        support(),
        ReductionConfig(3, screen=False),
        np.random.default_rng(0),
    )
    assert done.mixture.num_experts == 3
    assert np.isfinite(done.mixture.gate).all()


def test_middle_and_average_of_equal_fits_are_the_fit():
    fit = merged([near(0)], [1])
    locals_ = [LocalFit(fit, 10), LocalFit(reorder_experts(fit, np.array([1, 2, 0])), 30)]
    for found in (choose_middle_mixture(locals_, support()), average_mixtures(locals_, support())):
        x = add_constant(support().x)
        assert measure_divergence(x, np.full(200, 1 / 200), fit, found, ForwardKL()) < 1e-12
    np.testing.assert_allclose(average_mixtures(locals_, support()).gate, fit.gate, atol=1e-12)


@pytest.mark.parametrize(
    ("recipe", "word"),
    [
        (ReductionConfig(3, cost="tv"), "cost='tv'"),
        (ReductionConfig(3, gate="x"), "gate='x'"),
        (ReductionConfig(9), "smaller n_experts"),
        (ReductionConfig(3, gate="posterior"), "responses"),
    ],
)
def test_a_wrong_recipe_is_refused(recipe, word):
    with pytest.raises(ValueError, match=word):
        reduce_mixtures([LocalFit(near(0), 1)], support(), recipe, np.random.default_rng(0))


def test_log_sum_of_far_scores():
    assert log_sum_exp(np.array([[-1e5, -1e5]]))[0] == pytest.approx(-1e5 + np.log(2))
