"""Experts with owners: gate rows by their definition, edits that leave the rest as it was."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from moiety.core.errors import RunError
from moiety.core.files import add_digest, digest_bytes
from moiety.core.rows import take_all_rows
from moiety.core.streams import stream
from moiety.core.tensors import tensors_to_bytes
from moiety.data.dataset import Dataset, FeatureScale
from moiety.methods.task import LocalTraining
from moiety.models.gated import rate_experts
from moiety.models.mlp import mlp
from moiety.ops.ratio import fit_log_ratio
from moiety.run.owner import AloneTraining, read_owned_rows, train_owned_expert, tune_gate
from moiety.serve.cards import (
    CARD,
    TENSORS,
    Card,
    fingerprint_common,
    load_owned_expert,
    write_owned_expert,
)
from moiety.serve.choose import Plain
from moiety.serve.input_spec import InputSpec
from moiety.serve.predictor import Predictor, load_model, write_model
from moiety.serve.prior import EstimatedPrior
from moiety.serve.single import merge_experts
from moiety.serve.trade import (
    exchange_expert,
    find_cards,
    insert_expert,
    open_mixture,
    remove_expert,
)
from moiety.solve.beside import FROZEN, LOG_GATE, BesideFrozen
from moiety.tasks.classes import Classes

NAMES = ("a", "b", "c")
SHORT = AloneTraining(LocalTraining(lr=0.1, epochs=2, batch=8))
WELL = AloneTraining(LocalTraining(lr=10.0, epochs=2, batch=8))
WILD = AloneTraining(LocalTraining(lr=1e30, epochs=2, batch=8))


def make_base(hidden: int = 4) -> Predictor:
    model = mlp((2, hidden, 3), stream(0, "net"))
    spec = InputSpec((2,), FeatureScale(torch.zeros(2), torch.ones(2)), NAMES)
    return Predictor(model.params, model, Plain(model, Classes(NAMES)), spec, {"method": "common"})


def draw_rows(classes: tuple[int, ...], seed: int, count: int = 12) -> Dataset:
    """Draw rows around the corners of a triangle, some classes of the three."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.tensor(classes).repeat(count)
    corner = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 2.0]])
    x = corner[y] + 0.5 * torch.randn(len(y), 2, generator=rng)
    return Dataset("drawn", x, y, NAMES)


PUBLIC = draw_rows((0, 1, 2), 9)
LABELS = torch.arange(3).repeat(12)
MIXTURE = open_mixture(make_base(), PUBLIC.x)
ANN, BOB, EVE = (
    train_owned_expert(MIXTURE, draw_rows(own, seed), Card(name), SHORT, PUBLIC.x)
    for seed, (name, own) in enumerate({"Ann": (0, 1), "Bob": (2,), "Eve": (0, 2)}.items())
)
ALL = insert_expert(insert_expert(MIXTURE, ANN), BOB)


def rate(served: Predictor, x: Tensor) -> Tensor:
    """Rate the experts of a mixture for rows."""
    model = served.model
    return rate_experts(served.params, model.common.embed({"x": x}))  # type: ignore[union-attr]


def test_a_log_ratio_minimises_the_penalised_surprise_of_both_sides():
    rng = torch.Generator().manual_seed(0)
    x, other = torch.randn(3, 2, generator=rng) + 1, torch.randn(9, 2, generator=rng)
    slope, constant = (one.requires_grad_() for one in fit_log_ratio(x, other, ridge=2.0))
    mine, theirs = (rows.double() @ slope + constant for rows in (x, other))
    both = torch.nn.functional.softplus(-mine).mean() + torch.nn.functional.softplus(theirs).mean()
    loss = 6 * both + slope.square().sum() + 0.0005 * constant.square()
    assert all(bool(g.abs().max() < 1e-6) for g in torch.autograd.grad(loss, [slope, constant]))


def test_an_owner_is_scored_by_its_line_and_the_public_expert_by_0():
    x = torch.tensor([[1.0, -1.0], [0.5, 2.0]])
    embed = MIXTURE.model.common.embed({"x": x})  # type: ignore[union-attr]
    lines = [embed @ one.slope + one.constant for one in (ANN, BOB)]
    torch.testing.assert_close(rate(ALL, x), torch.stack([torch.zeros(2), *lines], 1))


def test_without_public_rows_a_row_is_the_mean_embedding():
    data = draw_rows((0, 1), 0)
    expert = train_owned_expert(MIXTURE, data, Card("Ann"), SHORT)
    embed = take_all_rows(MIXTURE.see(MIXTURE.open(data.x)))["embed"]
    torch.testing.assert_close(expert.slope, embed.mean(0))
    torch.testing.assert_close(expert.constant, -embed.mean(0).square().sum() / 2)


def test_a_stranger_to_the_gate_of_a_joint_training_is_added_to_what_it_says_at_its_mean():
    cards = {"cards": None}
    joint = replace(ALL, note={k: v for k, v in ALL.note.items() if k not in cards})
    grown = insert_expert(joint, EVE)
    before, after = (rate_experts(one.params, EVE.mean[None]) for one in (joint, grown))
    own = EVE.mean @ EVE.slope + EVE.constant
    torch.testing.assert_close(after[0, -1], before[0].logsumexp(0) + own)
    torch.testing.assert_close(after[:, :-1], before)
    assert [card.owner for card in find_cards(grown)][-1] == "Eve"


def test_the_loss_beside_a_frozen_model_by_hand():
    model = mlp((2, 3), stream(0, "net"))
    params = {name: torch.zeros_like(t) for name, t in model.params.items()}  # thirds
    frozen = torch.tensor([[0.5, 0.25, 0.25]]).log()
    gate = torch.tensor([[0.75, 0.25]]).log()
    batch = {"x": torch.ones(1, 2), FROZEN: frozen, LOG_GATE: gate, "y": torch.tensor([0])}
    loss, _ = BesideFrozen(model, Classes(NAMES))(params, batch, {})
    assert float(loss.exp()) == pytest.approx(1 / (0.75 * 0.5 + 0.25 / 3))


def test_training_is_a_function_of_rows_and_seed_alone():
    again = train_owned_expert(MIXTURE, draw_rows((0, 1), 0), Card("Ann"), SHORT, PUBLIC.x)
    other = replace(SHORT, seed=1)
    else_ = train_owned_expert(MIXTURE, draw_rows((0, 1), 0), Card("Ann"), other, PUBLIC.x)
    assert all(torch.equal(again.params[name], ANN.params[name]) for name in ANN.params)
    assert any(not torch.equal(else_.params[name], ANN.params[name]) for name in ANN.params)
    assert (ANN.card.rows, ANN.card.anchor) == (24, fingerprint_common(MIXTURE.model.common))  # type: ignore[union-attr]
    start = MIXTURE.model.common.params  # type: ignore[union-attr]
    assert any(not torch.equal(start[name], ANN.params[name]) for name in start)


def equal_but(served: Predictor, other: Predictor, mine: list[int], theirs: list[int]) -> bool:
    """Say whether experts and rows at some places of one are those at others, bit for bit."""
    cut = ("expert.", "gate.layer2")
    return all(
        torch.equal(tensor[mine], other.params[name][theirs])
        if name.startswith(cut)
        else torch.equal(tensor, other.params[name])
        for name, tensor in served.params.items()
    )


def test_whoever_is_not_named_keeps_every_bit():
    assert equal_but(remove_expert(ALL, "Ann"), ALL, [0, 1], [0, 2])
    assert equal_but(remove_expert(ALL, "Bob"), insert_expert(MIXTURE, ANN), [0, 1], [0, 1])
    swapped = exchange_expert(ALL, "Ann", EVE)
    assert equal_but(swapped, ALL, [0, 2], [0, 2])
    assert [card.owner for card in find_cards(swapped)] == ["public", "Eve", "Bob"]
    assert equal_but(exchange_expert(ALL, "Ann", ANN), ALL, [0, 1, 2], [0, 1, 2])


def test_tuning_moves_the_rows_of_the_gate_alone():
    tuned = tune_gate(ALL, PUBLIC, SHORT)
    moved = [name for name, t in tuned.params.items() if not torch.equal(t, ALL.params[name])]
    assert moved == ["gate.layer2.w", "gate.layer2.b"]
    right = [one.predict(PUBLIC.x).eq(LABELS).float().mean() for one in (ALL, tuned)]
    assert right[1] >= right[0]


def test_saved_experts_and_mixtures_are_those_that_were_written(tmp_path: Path):
    write_owned_expert(ANN, tmp_path / "ann")
    found = load_owned_expert(tmp_path / "ann")
    assert found.card == ANN.card
    assert equal_but(insert_expert(insert_expert(MIXTURE, found), BOB), ALL, [0, 1, 2], [0, 1, 2])
    write_model(ALL, tmp_path / "all")
    again = load_model(tmp_path / "all")
    assert torch.equal(again.predict_answer(PUBLIC.x), ALL.predict_answer(PUBLIC.x))
    assert find_cards(again) == find_cards(ALL)
    mine = again.personalize(draw_rows((2,), 3).x, 2)
    assert [card.owner for card in find_cards(mine)] == ["public", "Bob"]
    about = json.loads((tmp_path / "ann" / CARD).read_text())
    write_owned_expert(BOB, tmp_path / "bob")
    (tmp_path / "bob" / TENSORS).write_bytes((tmp_path / "ann" / TENSORS).read_bytes())
    strange = [{"price": 3}, {"owner": 3}, {"owner": "a\nb"}, {"licence": None}, {"rows": "1"}]
    cards = [{**about, "card": {**about["card"], **one}} for one in (*strange, {"rows": -1})]
    for made_up in (*cards, {**about, "net": [1]}, {**about, "card": []}):
        (tmp_path / "bob" / CARD).write_text(json.dumps(add_digest(made_up)))
        with pytest.raises(RunError, match="describes no expert"):
            load_owned_expert(tmp_path / "bob")
    more = tensors_to_bytes({**load_file(tmp_path / "ann" / TENSORS), "spare": torch.zeros(1)})
    (tmp_path / "bob" / TENSORS).write_bytes(more)
    told = add_digest({**about, "sha256": digest_bytes(more)})
    (tmp_path / "bob" / CARD).write_text(json.dumps(told))
    with pytest.raises(RunError, match="no expert's: spare"):
        load_owned_expert(tmp_path / "bob")
    (tmp_path / "ann" / TENSORS).write_bytes(b"other")
    with pytest.raises(RunError, match="was changed"):
        load_owned_expert(tmp_path / "ann")


def test_what_does_not_fit_is_refused():
    other = open_mixture(make_base(), PUBLIC.x + 1)
    wide = train_owned_expert(
        open_mixture(make_base(5), PUBLIC.x), PUBLIC, Card("Wide"), SHORT, PUBLIC.x
    )
    wide = replace(wide, card=replace(ANN.card, owner="Wide"))
    corrected = replace(ALL, serve=EstimatedPrior(ALL.serve))
    cut = replace(ANN, params={name: t[:1] for name, t in ANN.params.items()})
    for edit, why in {
        lambda: insert_expert(other, ANN): "train it beside this one",
        lambda: insert_expert(MIXTURE, wide): "or is a narrower one",
        lambda: insert_expert(MIXTURE, replace(ANN, net={"kind": "cnn"})): "or is a narrower one",
        lambda: insert_expert(MIXTURE, cut): "are not those",
        lambda: insert_expert(MIXTURE, replace(ANN, slope=ANN.mean[:1])): "are not those",
        lambda: insert_expert(MIXTURE, replace(ANN, slope=ANN.slope / 0)): "not finite",
        lambda: insert_expert(MIXTURE, replace(ANN, mean=1e300 + ANN.mean.double())): "not finite",
        lambda: insert_expert(MIXTURE, replace(ANN, mean=ANN.mean.long())): "are none",
        lambda: train_owned_expert(MIXTURE, PUBLIC, Card("public"), SHORT): "another name",
        lambda: train_owned_expert(MIXTURE, PUBLIC, Card("Zoe"), WILD): "lower the learning rate",
        lambda: tune_gate(tune_gate(ALL, PUBLIC, WELL), PUBLIC, WILD): "nothing is written; lower",
        lambda: insert_expert(ALL, ANN): "replace it",
        lambda: insert_expert(make_base(), ANN): "has no experts",
        lambda: insert_expert(corrected, EVE): "serve.prior none",
        lambda: open_mixture(ALL, PUBLIC.x): "experts already",
        lambda: open_mixture(replace(make_base(), serve=ALL.serve), PUBLIC.x): "used as it is",
        lambda: remove_expert(ALL, "Eve"): "no expert of 'Eve'; there are those of public, Ann",
        lambda: remove_expert(MIXTURE, "public"): "the only one",
        lambda: exchange_expert(ALL, "Bob", ANN): "another expert here",
    }.items():
        with pytest.raises(RunError, match=why):
            edit()


def test_a_narrower_expert_answers_between_zeros_as_it_did_alone():
    how = replace(SHORT, width=0.5)
    half = train_owned_expert(MIXTURE, draw_rows((0, 1), 0), Card("Ann"), how, PUBLIC.x)
    assert half.net == {"kind": "mlp", "widths": [2, 2, 3]}
    grown = insert_expert(MIXTURE, half)
    batch = {"x": PUBLIC.x}
    small = replace(MIXTURE.model.expert, params=half.params)  # type: ignore[union-attr]
    told = grown.model.expert_logits(grown.params, batch)[1]  # type: ignore[union-attr]
    torch.testing.assert_close(told, small.logits(half.params, batch, {}))
    assert equal_but(remove_expert(grown, "Ann"), remove_expert(ALL, "Ann"), [0], [0])
    with pytest.raises(ValueError, match="width=0"):
        replace(SHORT, width=0.0).check()


def test_labels_go_by_their_names():
    turned = Dataset("turned", PUBLIC.x, PUBLIC.y, ("c", "a", "b"))
    found = read_owned_rows(MIXTURE, turned)
    assert take_all_rows(found)["y"].tolist() == [(int(y) + 2) % 3 for y in LABELS]
    with pytest.raises(RunError, match=r"\['d'\]"):
        read_owned_rows(MIXTURE, Dataset("new", PUBLIC.x, PUBLIC.y, ("a", "b", "d")))
    with pytest.raises(RunError, match="--target"):
        read_owned_rows(MIXTURE, Dataset("none", PUBLIC.x, None, ()))


def test_an_owner_trains_alone():
    for local in (LocalTraining(prior="adjust"), LocalTraining(optimizer_state="keep")):
        with pytest.raises(ValueError, match="trains alone"):
            AloneTraining(local).check()
    for ridge in (0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"ridge={ridge}"):
            AloneTraining(ridge=ridge).check()
    with pytest.raises(ValueError, match="owner=' '"):
        Card(" ")
    with pytest.raises(ValueError, match="owner has 201 characters"):
        Card("a" * 201)
    with pytest.raises(ValueError, match="yesterday"):
        Card("Ann", date="yesterday")


def test_a_merged_model_is_the_mean_of_its_experts_by_what_the_gate_says(tmp_path):
    mine = ALL.personalize(PUBLIC.x, 2)
    one = merge_experts(mine, PUBLIC.x)
    weights = rate(mine, PUBLIC.x).softmax(-1).mean(0)
    for name, tensor in one.params.items():
        both = mine.params["expert." + name]
        torch.testing.assert_close(tensor, weights[0] * both[0] + weights[1] * both[1])
    write_model(one, tmp_path / "one")
    again = load_model(tmp_path / "one")
    assert torch.equal(again.predict_answer(PUBLIC.x), one.predict_answer(PUBLIC.x))
    assert not any(name.startswith(("gate.", "common.")) for name in one.params)
    with pytest.raises(RunError, match="is not merged"):
        merge_experts(one, PUBLIC.x)


def test_experts_that_are_alike_merge_into_what_they_are():
    both = {n: torch.stack([t[0], t[0]]) if n.startswith("expert.") else t
            for n, t in ALL.personalize(PUBLIC.x, 2).params.items()}  # fmt: skip
    mine = replace(ALL.personalize(PUBLIC.x, 2), params=both)
    told = merge_experts(mine, PUBLIC.x).predict_answer(PUBLIC.x)
    torch.testing.assert_close(told, mine.predict_answer(PUBLIC.x), atol=1e-5, rtol=1e-5)
