"""Every kind of objective: losses by hand, mixtures, answers, targets that are refused."""

import json
import math

import pytest
import torch
import torch.nn.functional as F

from moiety.tasks.classes import Classes
from moiety.tasks.labels import Labels
from moiety.tasks.losses import UNSCORED
from moiety.tasks.numbers import Numbers
from moiety.tasks.objective import rebuild_objective
from moiety.tasks.tokens import Tokens

RNG = torch.Generator().manual_seed(0)
COUNTS = torch.tensor([[0.0], [2.0], [5.0], [1.0]])
FITTED = torch.tensor([[1.0, -3.0], [5.0, 4.0], [2.0, 9.0], [4.0, 2.0]])
KINDS = {
    "classes": (Classes(("a", "b", "c")), torch.tensor([0, 2, 1, 1]), (3,)),
    "weighted": (
        Classes(("a", "b", "c"), weights=(1.0, 3.0, 0.5), smoothing=0.1),
        torch.tensor([0, 2, 1, 1]),
        (3,),
    ),
    "squared": (Numbers(("u", "v")).fit(FITTED), FITTED, (2,)),
    "absolute": (Numbers(("u", "v"), "absolute").fit(FITTED), FITTED, (2,)),
    "huber": (Numbers(("u", "v"), "huber").fit(FITTED), FITTED, (2,)),
    "poisson": (Numbers(("n",), "poisson").fit(COUNTS), COUNTS, (1,)),
    "labels": (
        Labels(("x", "y", "z")),
        torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]]),
        (3,),
    ),
    "tokens": (
        Tokens(tuple("abcd")),
        torch.tensor([[0, 3], [1, UNSCORED], [2, 2], [3, 0]]),
        (2, 4),
    ),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def outputs(kind, *lead):
    objective, y, shape = KINDS[kind]
    return objective, y, torch.randn(*lead, len(y), *shape, generator=RNG)


@kinds
def test_a_mixture_of_equal_experts_is_one_expert(kind):
    """Whatever the gate says; and all weight on one expert is that expert."""
    objective, y, out = outputs(kind, 3)
    gate = torch.randn(len(y), 3, generator=RNG).log_softmax(-1)
    alone = objective.mix(out[:1], torch.zeros(len(y), 1), y)
    torch.testing.assert_close(objective.mix(out[:1].expand_as(out), gate, y), alone)
    sure = torch.tensor([0.0, -200.0, -200.0]).expand(len(y), 3)
    torch.testing.assert_close(objective.mix(out, sure, y), alone)
    same = objective.answer_mix(out[:1].expand_as(out), gate)
    torch.testing.assert_close(same, objective.answer(out[0]))
    torch.testing.assert_close(objective.answer_mix(out, sure), objective.answer(out[0]))


@kinds
def test_a_mixture_is_at_most_as_surprised_as_its_experts_are_on_average(kind):
    """-log of a mean is at most the mean of -log (Jensen)."""
    objective, y, out = outputs(kind, 3)
    gate = torch.randn(len(y), 3, generator=RNG).log_softmax(-1)
    alone = [objective.mix(one[None], torch.zeros(len(y), 1), y) for one in out]
    bound = (gate.exp() * torch.stack(alone, -1)).sum(-1)
    assert (objective.mix(out, gate, y) <= bound + 1e-6).all()


@kinds
def test_losses_are_the_same_stacked_and_differentiable(kind):
    objective, y, out = outputs(kind, 5)
    stacked = torch.vmap(lambda one: objective.rows(one, y))(out)
    for place in range(5):
        torch.testing.assert_close(stacked[place], objective.rows(out[place], y))
    leaf = out[0].clone().requires_grad_()
    objective.rows(leaf, y).sum().backward()
    assert leaf.grad is not None
    assert torch.isfinite(leaf.grad).all()
    assert (leaf.grad != 0).any()


@kinds
def test_an_objective_comes_back_from_what_it_says_of_itself(kind):
    objective, _, out = outputs(kind)
    again = rebuild_objective(json.loads(json.dumps(objective.to_json())))
    assert again == objective
    assert torch.equal(again.answer(out), objective.answer(out))


@kinds
def test_metrics_add_up_over_any_cut_of_the_rows(kind):
    objective, y, out = outputs(kind)
    answer = objective.answer(out)
    for metric in objective.metrics:
        whole = metric.sums(*objective.select(answer, y))
        parts = [metric.sums(*objective.select(answer[i : i + 1], y[i : i + 1])) for i in range(4)]
        torch.testing.assert_close(sum(parts), whole)
        assert math.isfinite(metric.value(whole))


@kinds
def test_the_first_metric_is_best_for_the_best_answer(kind):
    """Descending the loss on the outputs themselves, the first metric ends better than it began."""
    objective, y, out = outputs(kind)
    metric = objective.metrics[0]
    free, sign = out.clone().requires_grad_(), 1 if metric.higher_is_better else -1
    rate = lambda o: sign * metric.value(metric.sums(*objective.select(objective.answer(o), y)))  # noqa: E731
    before = rate(out)
    descent = torch.optim.Adam([free], lr=0.1)
    for _ in range(200):
        descent.zero_grad()
        objective.rows(free, y).sum().backward()
        descent.step()
    assert rate(free.detach()) > before


def test_losses_by_hand():
    out, y = torch.randn(4, 3, generator=RNG), torch.tensor([0, 2, 1, 1])
    weights = torch.tensor([1.0, 3.0, 0.5])
    found = Classes(("a", "b", "c"), (1.0, 3.0, 0.5)).rows(out, y)
    torch.testing.assert_close(found, F.cross_entropy(out, y, weights, reduction="none"))
    smooth = Classes(("a", "b", "c"), smoothing=0.2).rows(out, y)
    wanted = F.cross_entropy(out, y, reduction="none", label_smoothing=0.2)
    torch.testing.assert_close(smooth, wanted)
    two, target = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]])
    assert Numbers(("u", "v")).rows(two, target).tolist() == [2.5]  # (1 + 4) / 2
    assert Numbers(("u", "v"), "absolute").rows(two, target).tolist() == [1.5]
    assert Numbers(("u", "v"), "huber").rows(two, target).tolist() == [1.0]  # (1/2 + 3/2) / 2
    count = Numbers(("n",), "poisson").rows(torch.tensor([[math.log(2.0)]]), torch.tensor([[3.0]]))
    assert count.tolist() == pytest.approx([2 - 3 * math.log(2)])
    label = Labels(("x", "y")).rows(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
    assert label.tolist() == pytest.approx([math.log(2)])


def test_numbers_are_standardised_inside_and_answered_in_their_unit():
    y = torch.tensor([100.0, 300.0])
    price = Numbers(("price",)).fit(y)
    assert price.rows(torch.tensor([[-1.0], [1.0]]), y).tolist() == [0.0, 0.0]
    assert price.answer(torch.tensor([[0.0], [2.0]])).tolist() == [[200.0], [400.0]]
    counts = Numbers(("n",), "poisson").fit(torch.tensor([1.0, 3.0]))
    assert counts.answer(torch.zeros(1, 1)).tolist() == [[pytest.approx(2.0)]]
    flat = Numbers(("n",)).fit(torch.tensor([7.0, 7.0]))
    assert flat.answer(torch.zeros(1, 1)).tolist() == [[7.0]]
    assert price.rows(torch.tensor([-1.0, 1.0]), y).tolist() == [0.0, 0.0]  # a model that gives [B]


@pytest.mark.parametrize(
    ("objective", "y", "said"),
    [
        (Classes(("a", "b")), torch.tensor([0, 1], dtype=torch.uint8), r"y is uint8.*y\.long\(\)"),
        (Classes(("a", "b")), torch.tensor([0.0, 1.0]), "y is float32.*take the objective numbers"),
        (Classes(("a", "b")), torch.tensor([[0], [1]]), r"shape \[2, 1\].*y\.flatten\(\)"),
        (Classes(("a", "b")), torch.tensor([0, -100]), r"y\[1\] = -100.*without a target out"),
        (Classes(("a", "b")), torch.tensor([2, 1]), r"y\[0\] = 2, but classes count from 0 to 1"),
        (Classes(), torch.tensor([1, -1]), r"y\[1\] = -1"),
        (Classes(("a",), unscored=True), torch.tensor([0, -2]), r"y\[1\] = -2.*-1 alone says"),
        (Numbers(("u",)), torch.tensor([1.0, math.nan]), r"y\[1, 0\] = nan.*leave rows"),
        (Numbers(("u",)), torch.tensor([[1.0, 2.0]]), r"shape \[1, 2\].*give \[N, 1\]"),
        (Numbers(("u",)), torch.tensor([True]), "y is torch.bool"),
        (Numbers(("u",), "poisson"), torch.tensor([-1.0]), "y holds -1.0.*choose squared"),
        (Labels(("x", "y")), torch.tensor([0, 1]), r"shape \[2\].*objective classes"),
        (Labels(("x", "y")), torch.tensor([[0, 2]]), r"y\[0, 1\] = 2; labels are 0 or 1"),
        (Tokens(("a", "b")), torch.tensor([0, 1]), r"shape \[2\].*\[N, T\]"),
        (Tokens(("a", "b")), torch.tensor([[0, -100]]), r"y\[0, 1\] = -100.*-1 alone says"),
        (
            Tokens(("a", "b")),
            torch.tensor([[0.0, 1.0]]),
            "y is float32, but the objective is tokens",
        ),
    ],
)
def test_a_wrong_target_is_refused_with_its_value_and_the_remedy(objective, y, said):
    with pytest.raises(ValueError, match=said):
        objective.check(y)


@kinds
def test_a_right_target_is_taken_as_it_is(kind):
    objective, y, _ = outputs(kind)
    assert torch.equal(objective.check(y), y)
    strata = objective.stratify(y)
    assert (len(strata), strata.dtype) == (len(y), torch.int64)
    assert int(strata.max()) < max(1, len(objective.strata))


def test_metrics_by_hand():
    rmse, mae, r2 = Numbers(("u",)).metrics
    found, y = torch.tensor([[1.0], [2.0], [6.0]]), torch.tensor([1.0, 4.0, 4.0])
    totals = rmse.sums(found, y)
    assert rmse.value(totals) == pytest.approx(math.sqrt(8 / 3))
    assert mae.value(totals) == pytest.approx(4 / 3)
    assert r2.value(totals) == pytest.approx(1 - 8 / 6)
    f1, exact, right = Labels(("x", "y")).metrics
    log = torch.tensor([[0.9, 0.2], [0.8, 0.7]]).log()  # says x; x and y
    totals = f1.sums(log, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert f1.value(totals) == pytest.approx(2 * 2 / (2 * 2 + 1))
    assert (exact.value(totals), right.value(totals)) == (0.5, 0.75)
    (perplexity, *_) = Tokens(("a", "b")).metrics
    answer, y = Tokens(("a", "b")).select(
        torch.tensor([[[0.5, 0.5], [0.25, 0.75]]]).log(), torch.tensor([[0, UNSCORED]])
    )
    assert perplexity.value(perplexity.sums(answer, y)) == pytest.approx(2.0)
