"""Adapters: saved, loaded, several of them, summed, and their experts as goods."""

import warnings
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from torch.testing import assert_close

from moiety.prompts import (
    GateTraining,
    add_expert,
    drop_expert,
    join_adapters,
    pretrain_gate,
    read_requests,
    sum_adapters,
)
from tests.prompts.conftest import (
    FAMILIES,
    choose,
    get_model,
    label_from,
    make_base,
    make_rows,
    score,
    tune,
    wake_gate,
)

CLOSE: Any = {"rtol": 1e-4, "atol": 2e-5}


def load(base, folder, **more):
    """Open a folder; PEFT asks a property of transformers that warns that it will go."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return PeftModel.from_pretrained(base, folder, **more)


@pytest.mark.parametrize("form", [{}, {"injection": "token"}, {"gate_mode": "separate"}], ids=str)
@pytest.mark.parametrize("kind", FAMILIES)
def test_a_folder_is_the_adapter(kind, form, tmp_path):
    """Saved and loaded it answers alike; it holds prompts and gate, and no number of the base."""
    model, ids = tune(make_base(kind), **form), make_rows()
    model.save_pretrained(tmp_path)
    held = load_file(tmp_path / "adapter_model.safetensors")
    assert all("mops_" in name for name in held)
    assert sum(t.numel() for t in held.values()) == model.get_nb_trainable_parameters()[0]
    again = load(make_base(kind), tmp_path)
    assert torch.equal(score(again, ids), score(model, ids))
    assert not any(p.requires_grad for p in again.parameters())


def test_training_goes_on_after_loading(tmp_path):
    """A loaded adapter steps as the one that was saved would have."""
    ids = make_rows()
    labels = label_from(ids, 5)

    def step(model):
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    model = tune(make_base())
    step(model)
    model.save_pretrained(tmp_path)
    again = load(make_base(), tmp_path, is_trainable=True)
    step(model)
    step(again)
    assert torch.equal(score(again, ids), score(model, ids))


def test_low_memory_loading(tmp_path):
    model, ids = tune(make_base()), make_rows()
    model.save_pretrained(tmp_path)
    again = load(make_base(), tmp_path, low_cpu_mem_usage=True)
    assert torch.equal(score(again, ids), score(model, ids))


def two(**other):
    """Make a model with two adapters that differ."""
    model = tune(make_base())
    model.add_adapter("second", choose(seed=7, **other))
    wake_gate(model, "second", seed=9)
    return model.eval()


def test_adapters_take_turns_and_are_deleted(tmp_path):
    model, ids = two(num_experts=2, gate_layer=2), make_rows()
    first = score(model, ids)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert all(".default" in name for name in trained)
    model.set_adapter("second")
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert all(".second" in name for name in trained)
    second = score(model, ids)
    assert (first - second).abs().max() > 1e-2
    model.save_pretrained(tmp_path, selected_adapters=["second"])
    again = load(make_base(), tmp_path / "second")
    assert torch.equal(score(again, ids), second)
    model.set_adapter("default")
    assert torch.equal(score(model, ids), first)
    model.delete_adapter("second")
    assert torch.equal(score(model, ids), first)
    assert not any("second" in name for name in model.state_dict())


def test_rows_of_one_batch_have_different_adapters():
    """Each row as alone with its adapter; ``__base__`` is the bare model; also in training."""
    model, ids = two(), make_rows(3)
    names = ["second", "__base__", "default"]
    mixed = score(model, ids, adapter_names=names)
    with model.disable_adapter():
        bare = score(model, ids)
    alone = {"__base__": bare}
    for name in ("default", "second"):
        model.set_adapter(name)
        alone[name] = score(model, ids)
    for row, name in enumerate(names):
        assert_close(mixed[row], alone[name][row], **CLOSE)
    made = model.generate(
        input_ids=ids[:, :5], adapter_names=names, max_new_tokens=4, do_sample=False
    )
    model.set_adapter("second")
    one = model.generate(input_ids=ids[:1, :5], max_new_tokens=4, do_sample=False)
    assert torch.equal(made[:1], one)


def test_two_adapters_at_once():
    """Prompts of both stand in front of the text."""
    model, ids = two(), make_rows()
    model.base_model.set_adapter(["default", "second"])
    both = score(model, ids)
    for name in ("default", "second"):
        model.set_adapter(name)
        assert (score(model, ids) - both).abs().max() > 1e-3


def test_a_weighted_sum():
    model = two()
    sum_adapters(model, ["default", "second"], [0.25, 0.75], "both")
    held = {n: get_peft_model_state_dict(model, adapter_name=n) for n in model.peft_config}
    for name, tensor in held["both"].items():
        expected = 0.25 * held["default"][name] + 0.75 * held["second"][name]
        assert_close(tensor, expected)
    ids = make_rows()
    first = score(model, ids)
    sum_adapters(model, ["default"], [1.0], "twin")
    model.set_adapter("twin")
    assert torch.equal(score(model, ids), first)
    with pytest.raises(ValueError, match="is there already"):
        sum_adapters(model, ["default"], [1.0], "twin")


def test_experts_of_one_adapter_join_another(tmp_path):
    """Scores of both stand side by side; where the gate is for one's experts, it answers so."""
    model, ids = two(num_experts=2, expert_names=["a", "b"]), make_rows(4)
    tuner = model.base_model
    alone = [score_gate(tuner, name, ids) for name in ("default", "second")]
    join_adapters(model, "default", "second")
    assert_close(score_gate(tuner, "default", ids), torch.cat(alone, 1), **CLOSE)
    assert tuner.peft_config["default"].expert_names[3:] == ["a", "b"]
    model.delete_adapter("second")
    joined = score(model, ids)
    model.save_pretrained(tmp_path)
    assert torch.equal(score(load(make_base(), tmp_path), ids), joined)


def score_gate(tuner, name, ids):
    """Give the gate's scores before the softmax."""
    with torch.no_grad():
        return tuner.adapters([name])[name].gate(tuner.read_gate(name, input_ids=ids))


@pytest.mark.parametrize("injection", ["deep", "token"])
def test_experts_are_added_and_dropped(injection):
    """An added expert goes again without a trace; a copy shares the weight of what it copies."""
    model, ids = tune(make_base(), injection=injection), make_rows()
    before, weights = score(model, ids), model.base_model.gate_weights(input_ids=ids)
    assert add_expert(model) == 3
    assert (score(model, ids) - before).abs().max() > 1e-4
    drop_expert(model, 3)
    assert_close(score(model, ids), before, **CLOSE)
    assert add_expert(model, init_from=1) == 3
    shared = model.base_model.gate_weights(input_ids=ids)
    assert_close(shared[:, 1], shared[:, 3])
    assert_close(shared[:, 0] / shared[:, 2], weights[:, 0] / weights[:, 2])
    assert all(p.requires_grad for n, p in model.named_parameters() if "mops_" in n)


def test_first_values():
    """From the vocabulary and from a text they are hidden states; noise has their deviation."""
    base = make_base()
    texts = torch.tensor([[5, 6], [7, 8], [9, 10]])
    recorded = {}
    block = base.model.layers[1]
    handle = block.input_layernorm.register_forward_hook(
        lambda m, a, out: recorded.update(out=out.detach())
    )
    front = torch.ones(3, 1, dtype=torch.long)
    score(base, torch.cat([front, texts], 1))
    handle.remove()
    model = get_model(base, choose())
    layer = model.base_model.layers()[1]
    fresh = layer.mops_prompts["default"].detach()
    assert fresh.std() > 0.1
    from moiety.prompts.starts import record_inputs

    found = record_inputs(base, texts)[1]
    assert_close(found, recorded["out"][:, 1:], **CLOSE)
    noise = get_model(make_base(), choose(prompt_init="normal"))
    spread = noise.base_model.layers()[1].mops_prompts["default"].detach().std()
    assert 0.5 * fresh.std() < spread < 2 * fresh.std()
    same = get_model(make_base(), choose()).base_model.layers()[1].mops_prompts["default"]
    assert torch.equal(same, fresh)


def make_skills():
    """Make requests of three skills: each has tokens of its own."""
    rng = torch.Generator().manual_seed(0)
    skill = torch.arange(60) % 3
    ids = 3 + skill[:, None] * 19 + torch.randint(4, (60, 6), generator=rng)
    return ids, skill


def test_a_gate_is_taught_by_labels_and_by_clusters():
    ids, skill = make_skills()
    model = get_model(make_base(), choose()).eval()
    z = read_requests(model, [{"input_ids": some} for some in ids.split(20)])
    assert z.shape == (60, 16)
    training = GateTraining(lr=1e-2, held_out=0.3)
    fit = pretrain_gate(model, z, skill, training=training)
    assert fit.accuracy >= 0.8
    assert fit.confidence > 0.8
    told = model.base_model.gate_weights(input_ids=ids).argmax(-1)
    assert (told == skill).float().mean() > 0.9
    blind = pretrain_gate(model, z, training=training)
    pairs = {(int(a), int(b)) for a, b in zip(blind.experts, skill, strict=True)}
    assert len(pairs) <= 6
    assert blind.accuracy > 0.6
    twin = get_model(make_base(), choose()).eval()
    again = pretrain_gate(twin, z, skill, training=training)
    assert (again.accuracy, again.confidence) == (fit.accuracy, fit.confidence)
