"""DDOME's losses by hand, and who feels them."""

import math

import pytest
import torch
import torch.nn.functional as F

from moiety.core.axes import Part, take_piece
from moiety.core.rows import TableRows
from moiety.models.gated import common_expert, gated_experts
from moiety.models.mlp import mlp
from moiety.serve.choose import Plain, Routed
from moiety.solve.mixture import MIXTURE_LOSSES, AnchorLoss, MixtureLoss
from moiety.tasks.classes import Classes


def mixture(experts: int = 4):
    rng = torch.Generator().manual_seed(0)
    net = mlp((5, 4, 3), rng)
    common = common_expert(net, net.params, torch.randn(30, 5, generator=rng))
    starts = [net.redraw(torch.Generator().manual_seed(place)) for place in range(experts)]
    return gated_experts(net, common, starts, rng, hidden=6)


def batch_of(model, size: int = 7):
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(size, 5, generator=rng)
    return dict(model.common({"x": x, "y": torch.arange(size) % 3}))


def slopes(loss, model, kept):
    """Gradients of the mean loss with respect to the piece held."""
    part = Part(kept)
    piece = {n: t.requires_grad_() for n, t in take_piece(model.params, model.axes, part).items()}
    value = loss(piece, batch_of(model), kept)[0].mean()
    found = torch.autograd.grad(value, list(piece.values()), materialize_grads=True)
    return dict(zip(piece, found, strict=True))


# Two experts, one row, two classes, label 0. Expert 0 says (0.8, 0.2), expert 1 says (0.4, 0.6);
# the gate gives them 0.3 and 0.1 of the whole, so 0.75 and 0.25 of what is at hand.
LOGITS = torch.tensor([[[0.8, 0.2]], [[0.4, 0.6]]], dtype=torch.double).log()
Y = torch.tensor([0])
ALL = torch.tensor([[0.3, 0.1]], dtype=torch.double).log()
HERE = torch.tensor([[0.75, 0.25]], dtype=torch.double).log()


def softmax_loss(a: float, b: float) -> float:
    """Cross-entropy of label 0 for two logits."""
    return math.log(math.exp(a) + math.exp(b)) - a


@pytest.mark.parametrize(
    ("kind", "log", "wanted"),
    [
        ("probs", HERE, -math.log(0.75 * 0.8 + 0.25 * 0.4)),
        ("sumloss", HERE, -0.75 * math.log(0.8) - 0.25 * math.log(0.4)),
        (
            "logits",
            HERE,
            softmax_loss(
                0.75 * math.log(0.8) + 0.25 * math.log(0.4),
                0.75 * math.log(0.2) + 0.25 * math.log(0.6),
            ),
        ),
        (
            "logits_full",
            ALL,
            softmax_loss(
                0.3 * math.log(0.8) + 0.1 * math.log(0.4),
                0.3 * math.log(0.2) + 0.1 * math.log(0.6),
            ),
        ),
    ],
)
def test_mixture_losses_by_hand(kind, log, wanted):
    loss = MixtureLoss(mixture(), Classes(), kind)
    assert loss.mix(LOGITS, log, Y).tolist() == pytest.approx([wanted], rel=1e-12)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="choose one of"):
        MixtureLoss(mixture(), Classes(), "prob")


@pytest.mark.parametrize("kind", MIXTURE_LOSSES)
def test_the_gate_is_renormalised_over_what_is_at_hand(kind):
    """The loss of a worker with experts 1 and 3 equals the formula of the specification."""
    model, kept = mixture(), {"expert": torch.tensor([1, 3])}
    batch = batch_of(model)
    piece = take_piece(model.params, model.axes, Part(kept))
    found, after = MixtureLoss(model, Classes(), kind)(piece, batch, kept)
    gate = model.log_gate(model.params, batch).exp()[:, [1, 3]]
    if kind != "logits_full":
        gate = gate / gate.sum(1, keepdim=True)
    logits = [model.expert.logits(model.one(model.params, e), batch, {}) for e in (1, 3)]
    y = batch["y"]
    if kind == "probs":
        mixed = gate[:, [0]] * logits[0].softmax(-1) + gate[:, [1]] * logits[1].softmax(-1)
        wanted = F.nll_loss(mixed.log(), y, reduction="none")
    elif kind == "sumloss":
        wanted = sum(gate[:, k] * F.cross_entropy(logits[k], y, reduction="none") for k in (0, 1))
    else:
        mixed = gate[:, [0]] * logits[0] + gate[:, [1]] * logits[1]
        wanted = F.cross_entropy(mixed, y, reduction="none")
    torch.testing.assert_close(found, wanted)
    assert after == {}


@pytest.mark.parametrize("kind", MIXTURE_LOSSES)
def test_one_expert_leaves_the_gate_alone_under_renormalised_losses(kind):
    model = mixture()
    grads = slopes(MixtureLoss(model, Classes(), kind), model, {"expert": torch.tensor([2])})
    gate = sum(float(g.abs().sum()) for name, g in grads.items() if name.startswith("gate."))
    assert (gate == 0.0) == (kind != "logits_full")
    assert float(grads["expert.layer1.w"].abs().sum()) > 0


@pytest.mark.parametrize("kind", MIXTURE_LOSSES)
def test_every_expert_at_hand_and_the_gate_learn(kind):
    model = mixture()
    grads = slopes(MixtureLoss(model, Classes(), kind), model, {"expert": torch.tensor([0, 2])})
    for name, grad in grads.items():
        assert float(grad.abs().sum()) > 0, name
    last = grads["gate.layer2.b"]
    if kind != "logits_full":
        assert last[[1, 3]].tolist() == pytest.approx([0.0, 0.0], abs=1e-7)
    assert last[[0, 2]].abs().min() > 0


def test_an_anchors_two_losses_do_not_touch_each_other():
    """Sum of cross-entropies of expert and gate; each has the slope it has alone."""
    model, kept = mixture(), {"expert": torch.tensor([2])}
    batch = batch_of(model)
    piece = take_piece(model.params, model.axes, Part(kept))
    found, _ = AnchorLoss(model, Classes())(piece, batch, kept)
    logits = model.expert.logits(model.one(model.params, 2), batch, {})
    gate = model.log_gate(model.params, batch)
    expert_loss = F.cross_entropy(logits, batch["y"], reduction="none")
    gate_loss = F.nll_loss(gate, torch.full((7,), 2), reduction="none")
    torch.testing.assert_close(found, expert_loss + gate_loss)

    both, expert_only = (
        slopes(AnchorLoss(model, Classes(), teach), model, kept) for teach in (True, False)
    )
    for name in both:
        if name.startswith("gate."):
            assert float(both[name].abs().sum()) > 0
            assert float(expert_only[name].abs().sum()) == 0.0
        else:
            torch.testing.assert_close(both[name], expert_only[name])


def test_gated_experts_against_a_loop():
    """Probabilities mixed by the renormalised gate, one row and expert at a time."""
    model, kept = mixture(), {"expert": torch.tensor([0, 3])}
    batch = batch_of(model)
    piece = take_piece(model.params, model.axes, Part(kept))
    found = model.logits(piece, batch, kept)
    assert torch.equal(model.forward(piece, batch, kept)[0], found)
    for row in range(7):
        one = {name: column[row : row + 1] for name, column in batch.items()}
        hidden = F.relu(
            model.params["gate.layer1.w"] @ one["embed"][0] + model.params["gate.layer1.b"]
        )
        score = (model.params["gate.layer2.w"] @ hidden + model.params["gate.layer2.b"]).exp()
        total = torch.zeros(3)
        for expert in (0, 3):
            says = model.expert.logits(model.one(model.params, expert), one, {})[0].softmax(-1)
            total += score[expert] / (score[0] + score[3]) * says
        torch.testing.assert_close(found[row].exp(), total)


def test_the_embedding_is_the_frozen_hidden_layer_standardised():
    model = mixture()
    rng = torch.Generator().manual_seed(0)
    net = mlp((5, 4, 3), rng)
    x = torch.randn(30, 5, generator=rng)
    embed = common_expert(net, net.params, x)({"x": x})["embed"]
    hidden = F.relu(x @ net.params["layer1.w"].T + net.params["layer1.b"])
    alive = hidden.std(0, correction=0) > 1e-6
    wanted = (hidden - hidden.mean(0)) / hidden.std(0, correction=0)
    torch.testing.assert_close(embed[:, alive], wanted[:, alive])
    assert embed.isfinite().all()
    assert set(model.common.constants()) == {
        "common.layer1.w", "common.layer1.b", "common.layer2.w", "common.layer2.b",
        "common.mean", "common.std",
    }  # fmt: skip


def test_dead_features_are_not_divided_by_nothing():
    net = mlp((2, 3, 2), torch.Generator().manual_seed(0))
    dead = {**net.params, "layer1.w": torch.zeros(3, 2), "layer1.b": torch.zeros(3)}
    common = common_expert(net, dead, torch.randn(9, 2, generator=torch.Generator().manual_seed(1)))
    assert common({"x": torch.ones(1, 2)})["embed"].tolist() == [[0.0] * 3]


def rows_of(model) -> TableRows:
    return TableRows(batch_of(model, 20), torch.arange(20))


def test_serving_answers_each_row_by_the_best_expert_at_hand():
    model = mixture()
    serve, rows = Routed(model, 2), rows_of(model)
    part = serve.choose(model.params, rows)
    total = model.log_gate(model.params, batch_of(model, 20)).exp().sum(0)
    chosen = sorted(total.argsort(descending=True)[:2].tolist())
    assert part.axes["expert"].tolist() == chosen
    piece = take_piece(model.params, model.axes, part)
    batch = batch_of(model, 20)
    scores, routes = serve.scores(piece, batch, part.axes), serve.routes(piece, batch, part.axes)
    assert routes is not None
    gate = model.log_gate(model.params, batch)
    for row in range(20):
        expert = max(chosen, key=lambda e: float(gate[row, e]))
        one = {name: column[row : row + 1] for name, column in batch.items()}
        wanted = model.expert.logits(model.one(model.params, expert), one, {}).log_softmax(-1)
        torch.testing.assert_close(scores[row], wanted[0])
        assert routes[row].item() == expert
    assert len(set(routes.tolist())) == 2


def test_all_experts_serve_where_k_is_all_or_none():
    model = mixture()
    for k in (4, 9, None):
        part = Routed(model, k).choose(model.params, rows_of(model))
        assert part.axes["expert"].tolist() == [0, 1, 2, 3]
    soft = Routed(model, None, "soft").scores(model.params, batch_of(model), {})
    torch.testing.assert_close(soft, model.logits(model.params, batch_of(model), {}))
    with pytest.raises(ValueError, match="serving mode 'hard'"):
        Routed(model, 2, "hard")


def test_plain_serving_gives_log_probabilities_of_the_whole():
    net = mlp((5, 4, 3), torch.Generator().manual_seed(0))
    serve, batch = Plain(net), {"x": torch.ones(2, 5)}
    wanted = net.logits(net.params, batch, {}).log_softmax(-1)
    assert torch.equal(serve.scores(net.params, batch, {}), wanted)
    assert serve.choose(net.params, TableRows({}, torch.arange(0))) == Part()
    assert serve.routes(net.params, batch, {}) is None
