"""Models of the Llama family from their weights, against the library's own modules."""

import json
from dataclasses import replace

import pytest
import torch

from moiety.core.axes import Part, read_axis_lengths, take_piece
from moiety.core.rows import TableRows
from moiety.core.streams import stream
from moiety.engine.pool import Pool
from moiety.methods.ist import ist
from moiety.methods.task import LocalTraining, Task
from moiety.models.llama import llama, llama_from_config
from moiety.rounds.synchronous import initialise_state, make_jobs, play_round
from moiety.serve.config import rebuild_model
from moiety.serve.personal import deploy_subnet
from moiety.tasks.tokens import Tokens

transformers = pytest.importorskip("transformers", reason="the extra llm is not installed")

SMALL = {
    "vocab_size": 31, "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 3,
    "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 4,
    "max_position_embeddings": 32,
}  # fmt: skip
CONFIGS = {
    "llama": lambda **more: transformers.LlamaConfig(**SMALL, **more),
    "llama with biases": lambda: transformers.LlamaConfig(
        **SMALL, attention_bias=True, mlp_bias=True
    ),
    "tied": lambda: transformers.LlamaConfig(**SMALL, tie_word_embeddings=True),
    "mistral": lambda: transformers.MistralConfig(**SMALL, sliding_window=None),
    "qwen2": lambda: transformers.Qwen2Config(**SMALL),
}


def module_of(name):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = transformers.AutoModelForCausalLM.from_config(CONFIGS[name]()).float().eval()
        for parameter in module.parameters():  # biases start at zero, norms at one
            parameter.data += 0.1 * torch.randn_like(parameter)
    return module


def texts(rows=2, size=16):
    return torch.randint(31, (rows, size), generator=stream(1, "texts"))


@pytest.mark.parametrize("name", CONFIGS)
def test_the_whole_agrees_with_the_library(name):
    module, x = module_of(name), texts()
    model = llama(module, shared_blocks=())
    with torch.no_grad():
        wanted = module(input_ids=x).logits
        found = model.logits(model.params, {"x": x}, {})
    torch.testing.assert_close(found, wanted, rtol=2e-5, atol=2e-5)
    assert wanted.std() > 0.1


@pytest.mark.parametrize("name", CONFIGS)
def test_a_piece_is_the_whole_with_the_other_groups_and_units_silent(name):
    """A group without value and output is no group: its columns of the output are set to zero."""
    model, x = llama(module_of(name), shared_blocks=(0,)), texts()
    hands = {"layers.1.group": [0, 2], "layers.1.hidden": [1, 5, 6], "layers.2.group": [1]}
    part = Part({axis: torch.tensor(hand) for axis, hand in hands.items()})
    small = deploy_subnet(model, model.params, part)
    masked = dict(model.params)
    for layer, groups in ((1, [0, 2]), (2, [1])):
        output = f"model.layers.{layer}.self_attn.o_proj.weight"
        kept = torch.zeros(3, 2, 4)  # groups, heads of each, entries of a head
        kept[groups] = 1
        masked[output] = masked[output] * kept.flatten()
    down = "model.layers.1.mlp.down_proj.weight"
    masked[down] = masked[down] * torch.isin(torch.arange(20), torch.tensor([1, 5, 6]))
    found = small.logits(small.params, {"x": x}, part.axes)
    torch.testing.assert_close(found, model.logits(masked, {"x": x}, {}), rtol=1e-5, atol=1e-5)


def test_axes_are_groups_with_all_their_query_heads():
    model = llama(module_of("llama"), shared_blocks=(0, -1))
    assert read_axis_lengths(model.params, model.axes) == {
        "layers.1.group": 3,
        "layers.1.hidden": 20,
    }
    piece = take_piece(model.params, model.axes, Part({"layers.1.group": torch.tensor([1])}))
    q = "model.layers.1.self_attn.q_proj.weight"
    assert torch.equal(piece[q], model.params[q][8:16])
    k = "model.layers.1.self_attn.k_proj.weight"
    assert torch.equal(piece[k], model.params[k][4:8])


def test_it_is_built_again_whole_and_cut():
    config = CONFIGS["qwen2"]()
    model = llama_from_config(config, stream(0, "net"), shared_blocks=(0,))
    part = Part({"layers.1.group": torch.tensor([0, 2]), "layers.2.hidden": torch.arange(4)})
    for one in (model, deploy_subnet(model, model.params, part)):
        again = rebuild_model(json.loads(json.dumps(one.config())))
        shapes = {name: t.shape for name, t in one.params.items()}
        assert {name: t.shape for name, t in again.params.items()} == shapes
        found = again.logits(one.params, {"x": texts()}, {})
        assert torch.equal(found, one.logits(one.params, {"x": texts()}, {}))


def test_first_values_come_from_the_stream():
    config = CONFIGS["llama"]()
    before = torch.get_rng_state()
    one, two = (llama_from_config(config, stream(0, "net")) for _ in range(2))
    other = llama_from_config(config, stream(1, "net"))
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(one.params[name], two.params[name])
    assert not torch.equal(one.params[name], other.params[name])
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.redraw(stream(1, "net"))[name], other.params[name])


def test_what_it_cannot_follow_is_refused():
    with pytest.raises(ValueError, match="drops attention"):
        llama_from_config(CONFIGS["llama"](attention_dropout=0.1), stream(0))
    with pytest.raises(ValueError, match="'relu'"):
        llama_from_config(CONFIGS["llama"](hidden_act="relu"), stream(0))
    with pytest.raises(ValueError, match="'gpt2'"):
        llama_from_config(transformers.GPT2Config(), stream(0))
    with pytest.raises(ValueError, match="there are 3 blocks"):
        llama_from_config(CONFIGS["llama"](), stream(0), shared_blocks=(3,))
    window = transformers.MistralConfig(**SMALL, sliding_window=4)
    model = llama_from_config(window, stream(0))
    with pytest.raises(ValueError, match="reaches 4"):
        model.logits(model.params, {"x": texts()}, {})


def test_dealt_it_learns_and_sends_its_groups_alone():
    """A text that counts in a circle; a third of the middle block each."""
    model = llama_from_config(CONFIGS["llama"](), stream(0, "net"))
    count = (torch.arange(40)[:, None] + torch.arange(9)) % 31
    rows = TableRows({"x": count[:, :-1], "y": count[:, 1:]}, torch.arange(40))
    local = LocalTraining("adamw", 1e-2, batch=10, epochs=0, steps=10)
    method = ist(Task(model, local, rounds=6, workers=3, objective=Tokens()))
    state, engine = initialise_state(method), Pool(lambda worker: rows, processes=1)
    whole = sum(t.numel() for t in model.params.values())
    dealt = sum(t.numel() for n, t in model.params.items() if n in model.axes)
    down = 3 * 20 * 24  # of the perceptron: 20 units in hands of 7, 7 and 6
    for job in make_jobs(method, state, [0, 1, 2], {}, 0):
        units = len(job.share.part.axes["layers.1.hidden"])
        sent = whole - dealt + (dealt - down) // 3 + 3 * units * 24
        assert job.down_bytes == 4 * sent
    for _ in range(6):
        state = play_round(method, engine, state, [0, 1, 2], 0)
    used = method.calibrate(state.params, None)
    guess = model.logits(used, {"x": count[:, :-1]}, {}).argmax(-1)
    assert (guess == count[:, 1:]).double().mean() > 0.9
    assert replace(model, params=used).config() == model.config()
