"""Mixtures, at one machine and many: values on paper."""

import numpy as np
import pytest
import torch

from moiety.core.fold import Precision
from moiety.core.state import Reply, Share
from moiety.engine.serial import Serial
from moiety.estimators import MixtureOfExpertsRegressor
from moiety.merge.transport import gather_support
from moiety.methods.dmoe import demo
from moiety.mixtures.align import match_experts
from moiety.mixtures.categorical import CategoricalExperts
from moiety.mixtures.cost import CATEGORICAL_COSTS, GAUSSIAN_COSTS
from moiety.mixtures.em import Prior, compute_penalised_likelihood, make_m_step, sum_rows
from moiety.mixtures.experts import GaussianExperts
from moiety.mixtures.fit import Search
from moiety.mixtures.inputs import LocalFit, Support, prepare_inputs
from moiety.mixtures.model import Mixture, add_constant
from moiety.mixtures.pooled import PooledPoint, step_pooled
from moiety.mixtures.reduce import measure_misfits
from moiety.mixtures.transport import TransportProblem, transport_experts
from moiety.mixtures.worker import FitTask
from moiety.rounds.commit import commit_replies
from moiety.rounds.synchronous import initialise_state, make_jobs
from tests.estimators.worlds import draw, gaussian_mixture


def test_support_rows_of_a_merge_stand_for_the_rows_of_their_worker():
    """10 rows told by 2, 4 rows by 4: weights 5 and 1."""
    replies = [
        Reply(w, Share(), {}, Precision(float(rows)), {"support": torch.full((sent, 3), float(w))})
        for w, (rows, sent) in enumerate([(10, 2), (4, 4)])
    ]
    found = gather_support(replies, [10, 4])
    assert found.weights.tolist() == [5, 5, 1, 1, 1, 1]
    assert found.x[:, 0].tolist() == [0, 0, 1, 1, 1, 1]


def test_support_rows_of_unequal_weights_share_the_rows_of_their_worker():
    """Weights 1 and 3 of a worker of 12 rows: 3 and 9; three of one weight of 6 rows: 2 each."""
    replies = [
        Reply(w, Share(), {}, answer={"support": torch.zeros(len(weights), 2),
                                      "weights": torch.tensor(weights, dtype=torch.double)})
        for w, weights in enumerate([[1, 3], [5, 5, 5]])
    ]  # fmt: skip
    found = gather_support(replies, [12, 6])
    assert found.weights.tolist() == [3, 9, 2, 2, 2]
    assert found.y is None


def test_the_support_of_one_worker_is_rounded_up():
    """2,000 rows of three workers are 667 each; 50 a column from 41 columns on."""
    task = FitTask(Search(2), workers=3)
    assert task.share_support(3) == 667
    assert task.share_support(41) == 684
    assert FitTask(Search(2), support=10, workers=4).share_support(3) == 3


def coin(*logs) -> CategoricalExperts:
    """One expert of a constant: class probabilities in proportion to exp(logs)."""
    return CategoricalExperts(np.array(logs, float)[None, None, :])


def test_a_misfit_is_twice_the_rows_times_the_squared_distance():
    """p = (1/2, 1/2) of 10 rows, q = (4/5, 1/5) of 30: H2 = 2 - 2 (sqrt(0.4) + sqrt(0.1))."""
    even = Mixture(np.zeros((1, 1)), coin(0.0, 0.0))
    odd = Mixture(np.zeros((1, 1)), coin(np.log(4), 0.0))
    support = Support(np.zeros((5, 0)), np.ones(5))
    scene = prepare_inputs([LocalFit(even, 10.0), LocalFit(odd, 30.0)], support, "kl")
    apart = 2 - 2 * (np.sqrt(0.5 * 0.8) + np.sqrt(0.5 * 0.2))
    np.testing.assert_allclose(measure_misfits(scene, odd), [2 * 10 * apart, 0], atol=1e-9)
    np.testing.assert_allclose(measure_misfits(scene, even), [0, 2 * 30 * apart], atol=1e-9)


def test_a_rare_expert_counts_like_another_in_the_matching():
    """Means 0 and 10 against -2 and 1: 4 + 81 is less than 1 + 144, however rare the second is."""
    mine = GaussianExperts(np.array([[0.0, 10.0]]), np.ones(2))
    others = GaussianExperts(np.array([[-2.0, 1.0]]), np.ones(2))
    x, even = np.ones((4, 1)), np.full(4, 0.25)
    for log_odds in (0.0, 5.0, 9.0):
        mixture = Mixture(np.array([[log_odds, 0.0]]), mine)
        order = match_experts(x, even, mixture, others, GAUSSIAN_COSTS["w2"])
        assert order.tolist() == [0, 1]


def test_a_pooled_step_that_fails_twice_is_quartered():
    """Told twice that it fell, the server goes a quarter of the first step from where it began."""
    mixture = gaussian_mixture(4, experts=2)
    x, y = draw(mixture, 400, 1)
    start = gaussian_mixture(9, experts=2)
    sums, prior = sum_rows(start, [(add_constant(x), y, np.ones(400))]), Prior()
    few = add_constant(1e-6 * x[:20])  # where no gate is steep, no step is cut for its stride
    at, best, told = start, None, []
    for fall in (0.0, 1e3, 1e3):
        told.append(at)
        here = PooledPoint(at, {**sums, "loglik": sums["loglik"] - fall}, 1.0)
        at, best = step_pooled(here, best, prior, few)
    steps = [make_m_step(start, sums, prior, step_size=size) for size in (1.0, 0.5, 0.25)]
    np.testing.assert_allclose(told[1].gate, steps[0].gate)
    np.testing.assert_allclose(told[2].gate, steps[1].gate)
    np.testing.assert_allclose(at.gate, steps[2].gate)


def test_experts_are_carried_until_plan_and_objective_both_rest():
    """An update that stops short, as a Newton step may, goes on though no assignment changes.

    One expert of mean 8 goes half the way to it from 0: squares 64, 16, 4, ... to the tolerance.
    """

    class Half:
        """A squared distance of means whose update goes half the way."""

        def between(self, x, local, reduced):
            return np.broadcast_to((local.coef[0] - reduced.coef[0][:, None, None]) ** 2, (1, 3, 1))

        def update(self, x, plan, local, reduced):
            coef = (reduced.coef + local.coef) / 2
            return GaussianExperts(coef, reduced.variances)

    problem = TransportProblem(
        np.ones((3, 1)), np.full((3, 1), 1 / 3), GaussianExperts(np.array([[8.0]]), np.ones(1)),
        Half(),  # type: ignore[arg-type]
    )  # fmt: skip
    start = GaussianExperts(np.array([[0.0]]), np.ones(1))
    done = transport_experts(problem, start, max_iter=12)
    assert done.trace == pytest.approx([64 / 4**step for step in range(13)])


def test_a_plan_that_changes_nothing_ends_the_carrying():
    """With an exact minimiser the plan rests and so does the objective: one look more."""
    made = CATEGORICAL_COSTS["kl"]
    one = coin(np.log(3), 0.0)
    problem = TransportProblem(np.ones((2, 1)), np.full((2, 1), 0.5), one, made)
    done = transport_experts(problem, coin(0.0, 0.0))
    assert len(done.trace) <= 4
    np.testing.assert_allclose(done.objective, 0, atol=1e-9)


def test_mixtures_are_reduced_alike_in_whatever_order_they_come():
    """Sums are taken by worker, so that two orders give the same bits."""
    made = demo(torch.Generator().manual_seed(0))
    method, state = made.method, initialise_state(made.method)
    jobs = list(make_jobs(method, state, sorted(made.data), {}, 4))
    replies = list(Serial(made.data.__getitem__).map(method.solve, jobs))
    assert len(replies) > 2
    ahead, back = (commit_replies(method, state, some).params for some in (replies, replies[::-1]))
    assert all(torch.equal(ahead[name], back[name]) for name in ahead)


def test_the_ridge_leaves_intercepts_alone():
    """Slopes 2 and -3 at a ridge of 0.1 on ten rows cost (4 + 9) / 2; an intercept nothing."""
    gate = np.array([[7.0, 0.0], [2.0, 0.0], [-3.0, 0.0]])
    mixture = Mixture(gate, GaussianExperts(np.zeros((3, 2)), np.ones(2)))
    sums = {"rows": np.array(10.0), "loglik": np.array(-4.0)}
    assert compute_penalised_likelihood(mixture, sums, Prior(0.1)) == pytest.approx(-4 - 6.5)


def test_the_integrated_criterion_by_hand():
    """BIC, and twice the entropy of the labels: of the likeliest, or of all."""
    mixture = gaussian_mixture(4, experts=2)
    x, y = draw(mixture, 50, 1)
    model = MixtureOfExpertsRegressor(2, random_state=0).fit(x, y)
    share = model.responsibilities(x, y)
    hard, soft = -np.log(share.max(1)).sum(), -(share * np.log(share)).sum()
    bic = model.bic(x, y)
    assert model.icl(x, y) == pytest.approx(bic + 2 * hard)
    assert model.icl(x, y, hard=False) == pytest.approx(bic + 2 * soft)
