"""What PEFT's own tests ask of a tuner, over families of models: each check on each of them.

Saving, several adapters, left padding and generation with a cache are held by the other files.
"""

import warnings

import pytest
import torch
import transformers
from torch import nn
from torch.testing import assert_close

from moiety.prompts import GateTraining, pretrain_gate, prune_language, read_requests
from tests.prompts.conftest import (
    FAMILIES,
    choose,
    get_model,
    label_from,
    make_base,
    make_rows,
    score,
    tune,
)
from tests.prompts.test_adapters import load


def list_trained(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("kind", FAMILIES)
def test_off_and_unloaded_it_is_the_model_it_was(kind):
    """To the bit; unloaded, no module and no attention of ours is left."""
    ids, bare = make_rows(), score(make_base(kind), make_rows())
    model = tune(make_base(kind))
    assert not torch.equal(score(model, ids), bare)
    with model.disable_adapter():
        assert torch.equal(score(model, ids), bare)
    assert not torch.equal(score(model, ids), bare)
    assert model.get_layer_status()
    assert model.get_model_status().enabled
    base = model.unload()
    assert torch.equal(score(base, ids), bare)
    assert not [name for name, _ in base.named_parameters() if "mops" in name]
    assert "mops" not in base.config._attn_implementation
    assert base.state_dict().keys() == make_base(kind).state_dict().keys()


@pytest.mark.parametrize("kind", FAMILIES)
def test_adapters_come_and_go(kind, tmp_path):
    """The second is added, chosen, saved, deleted; loaded again beside the first it is itself."""
    model, ids = tune(make_base(kind)), make_rows()
    first = score(model, ids)
    model.add_adapter("second", choose(seed=5, num_experts=2))
    assert torch.equal(score(model, ids), first)
    model.set_adapter("second")
    assert all(".second" in name for name in list_trained(model))
    second = score(model, ids)
    assert not torch.equal(second, first)
    model.save_pretrained(tmp_path)
    model.set_adapter("default")
    model.delete_adapter("second")
    assert torch.equal(score(model, ids), first)
    load_adapter(model, tmp_path / "second", "back")
    model.set_adapter("back")
    assert torch.equal(score(model, ids), second)
    model.delete_adapter("default")
    assert torch.equal(score(model, ids), second)


def load_adapter(model, folder, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model.load_adapter(folder, name)


@pytest.mark.parametrize("kind", FAMILIES)
def test_half_precision_generates_and_learns(kind):
    """The base is bfloat16, prompts and gate float32; sums of both come in the base's numbers."""
    model, ids = tune(make_base(kind, dtype=torch.bfloat16)), make_rows()
    assert {p.dtype for n, p in model.named_parameters() if "mops_" in n} == {torch.float32}
    made = model.generate(input_ids=ids[:, :5], max_new_tokens=3, do_sample=False)
    assert made.shape == (2, 8)
    out = model(input_ids=ids, labels=label_from(ids, 5))
    out.loss.backward()
    assert out.logits.dtype == torch.bfloat16
    assert all(p.grad is not None and p.grad.isfinite().all()
               for p in model.parameters() if p.requires_grad)  # fmt: skip


@pytest.mark.parametrize("kind", FAMILIES)
def test_inputs_may_be_embedded_already(kind):
    """Answers are those of the tokens: the gate reads the same, whatever they came as."""
    model, ids = tune(make_base(kind)), make_rows()
    with torch.no_grad():
        told = model(inputs_embeds=model.get_input_embeddings()(ids)).logits
    assert_close(told, score(model, ids))


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_model_that_is_dispatched(kind, tmp_path):
    """A folder of a model opened with a device map takes a saved adapter, and answers alike."""
    model, ids = tune(make_base(kind)), make_rows()
    model.save_pretrained(tmp_path / "adapter")
    make_base(kind).save_pretrained(tmp_path / "base")
    told = {"device_map": {"": "cpu"}, "attn_implementation": "sdpa"}
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", **told)
    assert torch.equal(score(load(base, tmp_path / "adapter"), ids), score(model, ids))


@pytest.mark.parametrize("kind", FAMILIES)
def test_checkpointed_gradients_are_the_gradients(kind):
    ids = make_rows()
    found = []
    for checkpointed in (False, True):
        model = tune(make_base(kind)).train()
        if checkpointed:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                model.gradient_checkpointing_enable({"use_reentrant": False})
        model(input_ids=ids, labels=label_from(ids, 5), use_cache=False).loss.backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    for name, grad in found[0].items():
        assert_close(found[1][name], grad, rtol=1e-4, atol=1e-5)


class Rows(torch.utils.data.Dataset):
    """Eight rows with labels from the sixth token on."""

    def __len__(self):
        return 8

    def __getitem__(self, place):
        ids = make_rows(8)[place]
        return {"input_ids": ids, "labels": label_from(ids[None], 5)[0]}


def test_the_trainer_trains_it_and_saves_an_adapter(tmp_path):
    """Its loss falls, the base stays, and the checkpoint opens as an adapter."""
    base = make_base()
    before = {name: t.clone() for name, t in base.state_dict().items()}
    model = tune(base)
    told = transformers.TrainingArguments(
        str(tmp_path / "out"), per_device_train_batch_size=4, num_train_epochs=6,
        learning_rate=0.3, report_to=[], save_strategy="no", logging_steps=1, use_cpu=True,
        disable_tqdm=True, seed=0, remove_unused_columns=False, dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = transformers.Trainer(model, told, train_dataset=Rows())
    trainer.train()
    losses = [one["loss"] for one in trainer.state.log_history if "loss" in one]
    assert sum(losses[-2:]) < 0.97 * sum(losses[:2])
    trainer.save_model(str(tmp_path / "saved"))
    again = load(make_base(), tmp_path / "saved")
    model.eval()
    assert torch.equal(score(again, make_rows()), score(model, make_rows()))
    for name, held in make_base().state_dict().items():
        assert torch.equal(held, before[name])


class Int8(nn.Module):
    """A linear layer whose weights are 8-bit numbers with a scale a row: buffers, no parameters."""

    scale: torch.Tensor
    whole: torch.Tensor
    shift: torch.Tensor | None

    def __init__(self, layer):
        super().__init__()
        scale = layer.weight.detach().abs().amax(1, keepdim=True) / 127
        self.register_buffer("scale", scale)
        self.register_buffer("whole", (layer.weight.detach() / scale).round().to(torch.int8))
        self.register_buffer("shift", None if layer.bias is None else layer.bias.detach())

    def forward(self, x):
        return nn.functional.linear(x, self.whole * self.scale, self.shift)


def quantise(base):
    """Replace the linear layers of every block by 8-bit ones."""
    for module in list(base.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear) and child is not base.get_output_embeddings():
                setattr(module, name, Int8(child))
    return base


@pytest.mark.parametrize(
    ("kind", "mask"),
    [("llama", "sparsegpt"), ("qwen2", "magnitude"), ("gpt2", "sparsegpt"), ("gpt_neox", "wanda")],
)
def test_a_pruned_base(kind, mask):
    """The gate is taught after pruning, and prompts get gradients; zeros stay zeros."""
    base = prune_language(make_base(kind), 0.5, mask, input_ids=make_rows(12))
    zeros = {name: p == 0 for name, p in base.named_parameters() if p.ndim == 2}
    assert any(mask.float().mean() > 0.4 for mask in zeros.values())
    learn_and_answer(base)
    assert all((p == 0)[zeros[n]].all() for n, p in base.named_parameters() if n in zeros)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt_neox"])
def test_an_int8_base(kind):
    """Prompts go through its projections, whatever numbers these hold."""
    learn_and_answer(quantise(make_base(kind)))


def learn_and_answer(base):
    """Teach the gate, ask for gradients, generate."""
    ids, skill = make_rows(12), torch.arange(12) % 3
    ids[:, :5] = 3 + 10 * skill[:, None]  # three skills, told by their tokens
    model = get_model(base, choose())
    z = read_requests(model, [{"input_ids": ids[:, :5]}])
    pretrain_gate(model, z, skill, training=GateTraining(steps=200, lr=3e-2, held_out=0.5))
    told = model.base_model.gate_weights(input_ids=ids[:, :5]).argmax(-1)
    assert (told == skill).sum() >= 10
    labels, trained = label_from(ids, 5), [p for p in model.parameters() if p.requires_grad]
    model(input_ids=ids, labels=labels).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    assert all(p.grad.norm() > 0 for n, p in model.named_parameters() if "mops_prompts" in n)
    made = model.eval().generate(input_ids=ids[:, :5], max_new_tokens=3, do_sample=False)
    assert made.shape == (12, 8)
