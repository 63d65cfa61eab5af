"""Tiny language models of every family, and mixtures of prompts in them."""

import warnings

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="the extra mops is not installed")
peft = pytest.importorskip("peft", reason="the extra mops is not installed")

from moiety.prompts import MopsConfig  # noqa: E402

transformers.logging.set_verbosity_error()

WORDS = 60
WIDE = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vocab_size": WORDS,
    "max_position_embeddings": 64,
}
ENDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
GROUPED = {**WIDE, **ENDS, "num_key_value_heads": 2}
STILL = {"resid_pdrop": 0.0, "attn_pdrop": 0.0, "embd_pdrop": 0.0}
CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**GROUPED),
    "mistral": lambda: transformers.MistralConfig(**GROUPED, sliding_window=4),
    "qwen2": lambda: transformers.Qwen2Config(**GROUPED),
    "gpt2": lambda: transformers.GPT2Config(
        n_embd=16, n_layer=3, n_head=4, vocab_size=WORDS, n_positions=64, **STILL, **ENDS
    ),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**WIDE, **ENDS),
}
FAMILIES = tuple(CONFIGS)


def make_base(kind="llama", attention="sdpa", dtype=torch.float32):
    """Make a tiny model whose numbers are large enough for differences to show."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(
            CONFIGS[kind](), attn_implementation=attention
        )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "embed" not in name and "wte" not in name:
                parameter.mul_(8)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model.to(dtype).eval()


def choose(**changes):
    """Choose a small mixture of prompts."""
    small = {"num_experts": 3, "prompts_per_expert": 2, "gate_hidden_size": 8, "gate_layer": 1}
    return MopsConfig(**{"task_type": "CAUSAL_LM", **small, **changes})


def tune(base, name="default", **changes):
    """Put a mixture of prompts into a model, with a gate that tells requests apart."""
    model = get_model(base, choose(**changes), name)
    wake_gate(model, name)
    return model.eval()


def get_model(base, config, name="default"):
    """Call PEFT, which asks a property of transformers that warns that it will go."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return peft.get_peft_model(base, config, adapter_name=name)


def wake_gate(model, name="default", seed=3):
    """Give the gate weights under which its scores differ from row to row."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if f"mops_gate.{name}." in key:
                parameter.copy_(torch.randn(parameter.shape, generator=rng))
            if key.endswith(f"mops_scale.{name}"):
                parameter.fill_(0.5)


def make_rows(rows=2, length=9, seed=1):
    """Draw tokens without padding, [rows, length]."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(3, WORDS, (rows, length), generator=rng)


def label_from(ids, start):
    """Label the tokens from a position on."""
    labels = ids.clone()
    labels[:, :start] = -100
    return labels


def score(model, ids, **more):
    """Score tokens without a gradient."""
    with torch.no_grad():
        return model(input_ids=ids, **more).logits
