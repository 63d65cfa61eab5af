"""The tuner in models of every family: what it adds, what it leaves alone, what is exact."""

import warnings
from typing import Any

import pytest
import torch
from torch.testing import assert_close

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

MODES = ("log_bias", "post_softmax", "separate", "none", "oracle")
CLOSE: Any = {"rtol": 1e-4, "atol": 2e-5}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_prompts_change_the_model_and_nothing_but_them_learns(kind, attention):
    """Disabled, it is the base model bit for bit; enabled, all that is new gets a gradient."""
    base, ids = make_base(kind, attention), make_rows()
    before = score(base, ids)
    model = tune(base)
    out = model(input_ids=ids, labels=label_from(ids, 5))
    out.loss.backward()
    got = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert got == trained
    assert all("mops_" in name for name in trained)
    assert len(trained) == 2 + 4  # prompts of two layers, two matrices and biases of the gate
    assert (out.logits - before).abs().max() > 1e-2
    with model.disable_adapter():
        assert torch.equal(score(model, ids), before)
    assert torch.equal(score(model.unload(), ids), before)


@pytest.mark.parametrize("injection", ["deep", "token"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_both_attentions_agree(kind, injection):
    ids = make_rows()
    scores = [
        score(tune(make_base(kind, attention), injection=injection), ids)
        for attention in ("sdpa", "eager")
    ]
    assert_close(*scores, **CLOSE)


def attend_by_hand(layer, hidden_BTD, prompts_PD, log_BP):
    """Attend to prompts and text as section 2.2 of the description has it, for one Llama layer."""
    attention = layer.base_layer
    rows, length, _ = hidden_BTD.shape
    width, groups = attention.head_dim, attention.num_key_value_groups
    cos, sin = layer.rotations

    def heads(x):
        return x.view(*x.shape[:-1], -1, width).transpose(-2, -3)

    def turn(x):
        left, right = x.chunk(2, -1)
        return x * cos[:, None] + torch.cat([-right, left], -1) * sin[:, None]

    query = turn(heads(attention.q_proj(hidden_BTD)))
    key = turn(heads(attention.k_proj(hidden_BTD))).repeat_interleave(groups, 1)
    value = heads(attention.v_proj(hidden_BTD)).repeat_interleave(groups, 1)
    front_key = heads(attention.k_proj(prompts_PD)).repeat_interleave(groups, 0)
    front_value = heads(attention.v_proj(prompts_PD)).repeat_interleave(groups, 0)
    text = query @ key.transpose(-1, -2) * width**-0.5
    text = text.masked_fill(torch.ones(length, length).triu(1).bool(), -torch.inf)
    front = query @ front_key.transpose(-1, -2) * width**-0.5 + log_BP[:, None, None]
    weights = torch.cat([front, text], -1).softmax(-1)
    count = len(prompts_PD)
    out = weights[..., :count] @ front_value + weights[..., count:] @ value
    return attention.o_proj(out.transpose(1, 2).reshape(rows, length, -1))


def test_a_layer_is_the_formula():
    """One layer against a slow twin: unnormalised weights of prompts times the gate's weight."""
    model, ids = tune(make_base()), make_rows()
    tuner = model.base_model
    layer = tuner.layers()[1]
    seen = {}

    def keep(module, args, kwargs, out):
        seen.update(kwargs, out=out[0])

    handle = layer.register_forward_hook(keep, with_kwargs=True)
    score(model, ids)
    handle.remove()
    layer.rotations = seen["position_embeddings"]
    prompts = layer.mops_prompts["default"].detach().flatten(0, 1)
    log_BP = tuner.gate_weights(input_ids=ids).log().repeat_interleave(2, -1)
    with torch.no_grad():
        expected = attend_by_hand(layer, seen["hidden_states"], prompts, log_BP)
    assert_close(seen["out"], expected, **CLOSE)


def test_an_open_expert_alone_is_as_if_the_others_were_not_there():
    base, ids = make_base(), make_rows()
    many = tune(base, gate_mode="oracle")
    alone = score(many, ids, expert_ids=torch.tensor([1, 1]))
    prompts = {n: la.mops_prompts["default"][1:2] for n, la in many.base_model.layers().items()}
    one = tune(make_base(), gate_mode="none", num_experts=1)
    with torch.no_grad():
        for place, layer in one.base_model.layers().items():
            layer.mops_prompts["default"].copy_(prompts[place])
    assert_close(alone, score(one, ids), **CLOSE)
    gated = tune(make_base(), num_experts=1)
    with torch.no_grad():
        for place, layer in gated.base_model.layers().items():
            layer.mops_prompts["default"].copy_(prompts[place])
    assert_close(alone, score(gated, ids), **CLOSE)


def test_a_closed_expert_learns_nothing():
    model, ids = tune(make_base(), top_k=1), make_rows(1)
    model(input_ids=ids, labels=label_from(ids, 5)).loss.backward()
    best = int(model.base_model.gate_weights(input_ids=ids[:, :5]).argmax())
    for layer in model.base_model.layers().values():
        grad = layer.mops_prompts["default"].grad
        assert {e for e in range(3) if grad[e].any()} == {best}


def test_the_order_of_experts_is_nobody_s_business():
    model, ids = tune(make_base()), make_rows()
    before = score(model, ids)
    order = torch.tensor([2, 0, 1])
    with torch.no_grad():
        for layer in model.base_model.layers().values():
            layer.mops_prompts["default"].copy_(layer.mops_prompts["default"][order])
            if "default" in layer.mops_gate:
                out = layer.mops_gate["default"].out
                out.weight.copy_(out.weight[order])
                out.bias.copy_(out.bias[order])
    assert_close(score(model, ids), before, **CLOSE)


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("injection", ["deep", "token"])
def test_an_answer_does_not_reach_what_stands_before_it(kind, mode, injection):
    """Other answer tokens leave all earlier scores as they are, bit for bit."""
    model = tune(make_base(kind), gate_mode=mode, injection=injection)
    told = {"expert_ids": torch.tensor([0, 2])} if mode == "oracle" else {}
    ids = make_rows()
    other = ids.clone()
    other[:, 6:] = make_rows(seed=5)[:, 6:]
    first, second = (
        score(model, one, labels=label_from(one, 5), **told)[:, :6] for one in (ids, other)
    )
    assert torch.equal(first, second)


def test_post_softmax_is_what_its_name_says():
    """The weights of the eager attention, with those of prompts times the gate's, by hand."""
    base, ids = make_base(attention="eager"), make_rows()
    model = tune(base, gate_mode="post_softmax")
    layer, seen = model.base_model.layers()[1], {}
    handle = layer.register_forward_hook(
        lambda m, a, k, out: seen.update(hidden=k["hidden_states"], weights=out[1], out=out[0]),
        with_kwargs=True,
    )
    score(model, ids)
    handle.remove()
    attention = layer.base_layer
    prompts = layer.mops_prompts["default"].detach().flatten(0, 1)
    rows = torch.cat([prompts.expand(2, -1, -1), seen["hidden"]], 1)
    value = attention.v_proj(rows).view(2, rows.shape[1], 2, -1).transpose(1, 2)
    gate_BP = model.base_model.gate_weights(input_ids=ids).repeat_interleave(2, -1)
    weights = seen["weights"].clone()
    weights[..., :6] *= gate_BP[:, None, None]
    out = weights @ value.repeat_interleave(2, 1)
    expected = attention.o_proj(out.transpose(1, 2).reshape(2, 9, -1))
    assert_close(seen["out"], expected.detach(), **CLOSE)


def test_a_separate_softmax_begins_as_the_bare_model():
    base, ids = make_base(), make_rows()
    before = score(base, ids)
    model = get_model(base, choose(gate_mode="separate")).eval()
    assert_close(score(model, ids), before, **CLOSE)
    wake_gate(model)
    assert (score(model, ids) - before).abs().max() > 1e-3


def test_gate_forms():
    """Top-k weights sum to one over k; sigmoids stand alone; a temperature flattens."""
    ids = make_rows(4)
    weights = {
        name: tune(make_base(), **form).base_model.gate_weights(input_ids=ids)
        for name, form in {
            "soft": {},
            "top": {"top_k": 2},
            "sigmoid": {"gate_activation": "sigmoid"},
            "warm": {"gate_temperature": 100.0},
        }.items()
    }
    assert_close(weights["soft"].sum(-1), torch.ones(4))
    assert ((weights["top"] > 0).sum(-1) == 2).all()
    assert_close(weights["top"].sum(-1), torch.ones(4))
    assert (weights["sigmoid"].sum(-1) - 1).abs().max() > 0.01
    assert (weights["warm"] - 1 / 3).abs().max() < 0.05 < (weights["soft"] - 1 / 3).abs().max()


def test_what_the_gate_reads():
    """Instruction, last token, a prefix that is not scored, and all tokens."""
    ids = make_rows()
    labels = label_from(ids, 5)
    read = {
        how: tune(make_base(), gate_pooling=how, **more).base_model.read_gate(
            input_ids=ids, labels=labels
        )
        for how, more in {
            "instruction": {}, "last": {}, "prefix": {"gate_context": 3}, "all": {}
        }.items()
    }  # fmt: skip
    hidden = make_base()(input_ids=ids, output_hidden_states=True).hidden_states[1]
    assert_close(read["instruction"], hidden[:, :5].mean(1), **CLOSE)
    assert_close(read["last"], hidden[:, 4], **CLOSE)
    assert_close(read["prefix"], hidden[:, :3].mean(1), **CLOSE)
    assert_close(read["all"], hidden.mean(1), **CLOSE)
    model = tune(make_base(), gate_pooling="prefix", gate_context=3)
    out = model(input_ids=ids, labels=ids)
    scores = out.logits[:, 2:-1].flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(scores, ids[:, 3:].flatten())
    assert_close(out.loss, expected)


@pytest.mark.parametrize("injection", ["deep", "token"])
def test_gradient_checkpointing_changes_no_gradient(injection):
    ids = make_rows()
    grads = []
    for checkpointed in (False, True):
        model = tune(make_base(), injection=injection).train()
        if checkpointed:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                model.gradient_checkpointing_enable({"use_reentrant": False})
        model(input_ids=ids, labels=label_from(ids, 5)).loss.backward()
        grads.append([p.grad for p in model.parameters() if p.requires_grad])
    assert len(grads[0]) == len(grads[1])
    for one, other in zip(*grads, strict=True):
        assert_close(one, other, **CLOSE)


def test_half_precision():
    """Prompts and gate stay in float32; scores are near those of the whole precision."""
    model, ids = tune(make_base(dtype=torch.bfloat16)), make_rows()
    assert {p.dtype for n, p in model.named_parameters() if "mops_" in n} == {torch.float32}
    out = model(input_ids=ids, labels=label_from(ids, 5))
    out.loss.backward()
    assert out.logits.dtype == torch.bfloat16
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    exact = score(tune(make_base()), ids, labels=label_from(ids, 5))
    assert (out.logits.float() - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_a_frozen_gate_does_not_learn():
    model, ids = tune(make_base(), train_gate=False), make_rows()
    model(input_ids=ids, labels=label_from(ids, 5)).loss.backward()
    trained = {n.split(".")[-2] for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {"mops_prompts"}


def test_keys_and_values_may_be_trained_themselves():
    """They start as the projections of hidden states, so both spaces begin with one model."""
    ids = make_rows()
    for kind in FAMILIES:
        told = [score(tune(make_base(kind), prompt_space=s), ids) for s in ("hidden", "kv")]
        assert_close(*told, **CLOSE)


def test_it_learns_and_blocks_below_the_gate_run_without_gradient():
    """Loss falls; and no tensor below the gate asks for a gradient."""
    model, ids = tune(make_base()).train(), make_rows(4, 12)
    ids[:, 4:] = 3 + torch.arange(4)[:, None]
    labels = label_from(ids, 4)
    below = []
    block = model.base_model.blocks[0]
    handle = block.register_forward_hook(lambda m, a, out: below.append(out.requires_grad))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 0.3)
    losses = []
    for _ in range(60):
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    handle.remove()
    assert losses[-1] < 0.8 * losses[0]
    assert not any(below)
