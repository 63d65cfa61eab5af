"""What DDOME's gate may read of a row: worked out from the rows, and the same in a saved model."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from moiety.core.errors import RunError, UnknownNameError
from moiety.core.state import count_bytes
from moiety.core.streams import stream
from moiety.data.dataset import FeatureScale
from moiety.methods.ddome import ddome
from moiety.methods.demo import NAMES, make_two_class_workers
from moiety.models.bag import make_bag
from moiety.models.gated import common_expert
from moiety.models.module import from_module
from moiety.models.transformer import build_gpt
from moiety.serve.export import export_model
from moiety.serve.input_spec import InputSpec
from moiety.serve.predictor import Predictor, load_model, write_model
from moiety.serve.trade import find_cards

INPUTS = ("hidden", "raw", "answers", "rows")


def made(gate_input):
    """Make the method on the demo problem; give also its task and the public rows."""
    task, data = make_two_class_workers(stream(0, "demo"))
    assert task.common is not None
    assert task.common.known is not None
    method = ddome(task, experts=4, gate_input=gate_input)
    return method, task, task.common.known, data


def read_by_hand(gate_input, params, x):
    """Read the row, its hidden layer or its outputs, by the two layers of the network."""
    hidden = (x @ params["layer1.w"].T + params["layer1.b"]).clamp(min=0)
    out = hidden @ params["layer2.w"].T + params["layer2.b"]
    return {"hidden": hidden, "raw": hidden, "answers": out, "rows": x}[gate_input]


@pytest.mark.parametrize("gate_input", INPUTS)
def test_a_gate_reads_what_it_is_told_standardised_by_the_rows_of_the_common_expert(gate_input):
    method, task, x, data = made(gate_input)
    batch = data[3].take(torch.arange(7))
    told = read_by_hand(gate_input, task.common.params, x)
    mean, std = told.mean(0), told.var(0, correction=0).sqrt()
    if gate_input == "raw":
        mean, std = torch.zeros_like(mean), torch.ones_like(std)
    std[std < 1e-6] = 1
    wanted = (read_by_hand(gate_input, task.common.params, batch["x"]) - mean) / std
    torch.testing.assert_close(method.transform(batch)["embed"], wanted, atol=1e-5, rtol=1e-5)
    assert method.model.params["gate.layer1.w"].shape == (64, wanted.shape[1])
    assert method.model.common.known is None  # no method carries rows about


def test_whoever_reads_rows_downloads_no_common_expert():
    """A mean and a deviation of each number alone, 4 bytes each; else the whole model besides."""
    width = {"hidden": 6, "raw": 6, "answers": 6, "rows": 8}
    net = 4 * (6 * 8 + 6 + 6 * 6 + 6)
    for gate_input, numbers in width.items():
        method = made(gate_input)[0]
        model = 0 if gate_input == "rows" else net
        assert count_bytes(method.constants) == 2 * 4 * numbers + model


@pytest.mark.parametrize("gate_input", INPUTS)
def test_a_saved_model_and_a_personal_one_read_the_same(gate_input, tmp_path):
    method, _, x, _ = made(gate_input)
    spec = InputSpec((8,), FeatureScale(torch.arange(8.0), torch.full((8,), 2.0)), NAMES)
    served = Predictor(method.model.params, method.model, method.serve, spec, {"method": "ddome"})
    write_model(served, tmp_path / "whole")
    loaded = load_model(tmp_path / "whole")
    assert loaded.model.config() == method.model.config()
    raw = 3 * x[:40]
    wanted = served.predict_log_proba(raw)
    assert torch.equal(loaded.predict_log_proba(raw), wanted)
    own = loaded.personalize(raw)
    write_model(own, tmp_path / "own")
    mine = load_model(tmp_path / "own")
    torch.testing.assert_close(mine.predict_log_proba(raw), wanted, atol=1e-6, rtol=0)
    frozen = [n for n in mine.model.constants if n.startswith("common.layer")]
    assert bool(frozen) == (gate_input != "rows")
    if gate_input in ("answers", "rows"):  # a hidden layer is exported in tests/run
        assert export_model(own, tmp_path / "own.pt2", "torch") < 1e-5


@pytest.mark.parametrize("gate_input", ["hidden", "rows"])
def test_frozen_layers_of_experts_are_saved_where_no_common_expert_is(gate_input, tmp_path):
    _, task, x, _ = made("hidden")
    module = nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 6))
    module[0].requires_grad_(requires_grad=False)
    net = from_module(module)
    task = replace(task, model=net, common=common_expert(net, net.params, x))
    method = ddome(task, experts=3, gate_input=gate_input)
    spec = InputSpec((8,), FeatureScale(torch.zeros(8), torch.ones(8)), NAMES)
    served = Predictor(method.model.params, method.model, method.serve, spec, {})
    write_model(served, tmp_path / "whole")
    loaded = load_model(tmp_path / "whole", from_module(copy.deepcopy(module)))
    assert torch.equal(loaded.predict_log_proba(x), served.predict_log_proba(x))
    place = "constant." if gate_input == "rows" else "common."
    assert {n for n in method.constants if n.endswith("0.weight")} == {f"{place}0.weight"}


def test_what_cannot_be_read_is_refused():
    _, task, _, _ = made("hidden")
    with pytest.raises(UnknownNameError, match=r"ddome.gate_input='row'; choose one of \['hidden'"):
        ddome(task, gate_input="row")
    with pytest.raises(ValueError, match=r"has no more; make it by common_expert\(model"):
        ddome(replace(task, common=replace(task.common, known=None)), gate_input="rows")
    words, rng = torch.randint(1, 9, (5, 4), generator=stream(0, "words")), stream(0, "net")
    bag = make_bag(9, 3, 6, rng)
    of_words = replace(task, model=bag, common=common_expert(bag, bag.params, words))
    with pytest.raises(ValueError, match=r"words or codes, .*take 'hidden'"):
        ddome(of_words, gate_input="rows")
    assert ddome(of_words, gate_input="answers").model.params["gate.layer1.w"].shape[1] == 6
    gpt = build_gpt((4,), 9, rng)
    of_text = replace(task, model=gpt, common=common_expert(gpt, gpt.params, words))
    with pytest.raises(ValueError, match=r"gives \[4, 9\] for each; take 'hidden'"):
        ddome(of_text, gate_input="answers")


def test_experts_are_no_goods_beside_a_gate_of_rows():
    method = made("rows")[0]
    spec = InputSpec((8,), FeatureScale(torch.zeros(8), torch.ones(8)), NAMES)
    served = Predictor(method.model.params, method.model, method.serve, spec, {})
    with pytest.raises(RunError, match=r"reads rows .* no frozen model beside which"):
        find_cards(served)
