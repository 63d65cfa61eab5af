"""Hugging Face causal models of the Llama family, run from their weights so that any piece runs.

Llama, Mistral and Qwen2 of the library ``transformers`` (the extra ``llm``): RMS norms, rotary
positions, grouped queries, gated perceptrons. Their modules keep widths beside their weights, so
the forward pass is written here from the weights alone; names of parameters are the library's.

Letters: B rows, T positions, D width, H query heads, G key/value groups, K width of a head,
F hidden units, V tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from moiety.core.axes import Along, Axes, AxisEntry, Part, read_axis_lengths, take_piece
from moiety.core.extras import import_extra
from moiety.core.protocols import Kept
from moiety.core.rows import Rows
from moiety.core.types import Batch, Params
from moiety.models.blocks import name_hidden_axis
from moiety.models.transformer import ENDS
from moiety.ops.attention import attend

FAMILY = ("llama", "mistral", "qwen2")
ACTS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
}


def name_group_axis(layer: int) -> str:
    """Name the axis of a layer's key/value groups, each with all of its query heads."""
    return f"layers.{layer}.group"


@dataclass(frozen=True)
class LlamaShape:
    """What the weights do not tell, and no cut changes.

    Args:
        head: width of a head.
        eps: of the norms.
        act: of the perceptron.
        frequency: of each pair of a head's entries, [K / 2].
        factor: on the rotation (of stretched positions).
        window: positions that attention reaches back, or None.
    """

    head: int
    eps: float
    act: str
    frequency: Tensor
    factor: float
    window: int | None


@dataclass(frozen=True)
class Llama:
    """Predicts the next token at every position; runs on any piece of itself.

    Made by ``llama`` or ``llama_from_config``.

    Args:
        params: by the library's names.
        axes: groups and hidden units of the blocks that may be assigned.
        shape: what the weights do not tell.
        recipe: the library's configuration, as plain data.
        shared_blocks: blocks that lie on no axis.
    """

    params: Params
    axes: Axes
    shape: LlamaShape
    recipe: Mapping[str, Any]
    shared_blocks: tuple[int, ...] = ENDS
    buffers: Mapping[str, str] = field(default_factory=dict)
    draws_noise: bool = False
    uses_batch_statistics: bool = False

    def config(self) -> Mapping[str, Any]:
        """Say how to build this model again, a sub-network by the lengths of its axes."""
        return {
            "kind": "llama",
            "recipe": dict(self.recipe),
            "shared_blocks": list(self.shared_blocks),
            "held": dict(read_axis_lengths(self.params, self.axes)),
        }

    def redraw(self, rng: Generator, /) -> Params:
        """Draw fresh first values, as the library does."""
        return rebuild_llama(rng, **{k: v for k, v in self.config().items() if k != "kind"}).params

    def encode(self, params: Params, x_BT: Tensor) -> Tensor:
        """Give the normed stream behind the last block, [B, T, D]."""
        size = x_BT.shape[1]
        if self.shape.window is not None and size > self.shape.window:
            raise ValueError(f"a text of {size} tokens, but attention reaches {self.shape.window}")
        turns = make_rotation(self.shape, size, params["model.norm.weight"])
        x_BTD = F.embedding(x_BT, params["model.embed_tokens.weight"])
        for layer in range(sum(name.endswith("q_proj.weight") for name in params)):
            at = f"model.layers.{layer}"
            seen = rms_norm(x_BTD, params[f"{at}.input_layernorm.weight"], self.shape.eps)
            x_BTD = x_BTD + run_grouped_attention(params, f"{at}.self_attn", seen, turns)
            seen = rms_norm(x_BTD, params[f"{at}.post_attention_layernorm.weight"], self.shape.eps)
            x_BTD = x_BTD + gate_units(params, f"{at}.mlp", seen, ACTS[self.shape.act])
        return rms_norm(x_BTD, params["model.norm.weight"], self.shape.eps)

    def features(self, params: Params, batch: Batch, /) -> Tensor:
        """Average the last stream over positions, [B, D]."""
        return self.encode(params, batch["x"]).mean(1)

    def logits(self, params: Params, batch: Batch, kept: Kept, /) -> Tensor:
        """Score the next token at every position, [B, T, V]."""
        del kept
        head = params.get("lm_head.weight", params["model.embed_tokens.weight"])
        return F.linear(self.encode(params, batch["x"]), head)

    def forward(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        return self.logits(params, batch, kept), {}

    def calibrate(self, params: Params, rows: Rows | None, held: Mapping[str, float], /) -> Params:
        """Scale the branches of assigned blocks by the share that a part held in training."""
        del rows
        scaled = dict(params)
        for layer in range(sum(name.endswith("q_proj.weight") for name in params)):
            at = f"model.layers.{layer}"
            for axis, name in (
                (name_group_axis(layer), f"{at}.self_attn.o_proj.weight"),
                (name_hidden_axis(layer), f"{at}.mlp.down_proj.weight"),
            ):
                if held.get(axis, 1.0) != 1.0:
                    scaled[name] = params[name] * held[axis]
        return scaled


def rms_norm(x_BTD: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Divide by the root of the mean square, in float32."""
    wide = x_BTD.float()
    return weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x_BTD.dtype)


def make_rotation(shape: LlamaShape, size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Give cosine and sine of every position's turn, [T, K] each."""
    place = torch.arange(size, device=like.device, dtype=torch.float)
    angle = place[:, None] * shape.frequency.to(like.device)
    both = torch.cat([angle, angle], -1)
    cos, sin = both.cos() * shape.factor, both.sin() * shape.factor
    return cos.to(like.dtype), sin.to(like.dtype)


def rotate_heads(x_BHTK: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """Turn queries or keys by their positions. Su et al., arXiv:2104.09864."""
    one, two = x_BHTK.chunk(2, -1)
    return x_BHTK * turns[0] + torch.cat([-two, one], -1) * turns[1]


def project_rows(params: Params, name: str, x: Tensor) -> Tensor:
    """Apply a linear layer, with its bias where it has one."""
    return F.linear(x, params[f"{name}.weight"], params.get(f"{name}.bias"))


def run_grouped_attention(
    params: Params, at: str, x_BTD: Tensor, turns: tuple[Tensor, Tensor]
) -> Tensor:
    """Attend with the groups at hand; several queries share a key and a value."""
    dim = turns[0].shape[-1]
    q, k, v = (
        project_rows(params, f"{at}.{name}_proj", x_BTD).unflatten(-1, (-1, dim)).transpose(1, 2)
        for name in ("q", "k", "v")
    )
    each = q.shape[1] // k.shape[1]
    k, v = rotate_heads(k, turns).repeat_interleave(each, 1), v.repeat_interleave(each, 1)
    seen_BHTK = attend(rotate_heads(q, turns), k, v, causal=True)
    return project_rows(params, f"{at}.o_proj", seen_BHTK.transpose(1, 2).flatten(2))


def gate_units(params: Params, at: str, x_BTD: Tensor, act: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply the hidden units at hand, each with a gate."""
    gate = act(project_rows(params, f"{at}.gate_proj", x_BTD))
    gated = gate * project_rows(params, f"{at}.up_proj", x_BTD)
    return project_rows(params, f"{at}.down_proj", gated)


def lay_llama_axes(layer: int, each: int, dim: int) -> dict[str, tuple[AxisEntry, ...]]:
    """Lay a block on its axes: a group has ``each`` query heads of width ``dim``."""
    at, hidden = f"model.layers.{layer}", name_hidden_axis(layer)
    queries = Along(name_group_axis(layer), block=each * dim)
    keys = Along(name_group_axis(layer), block=dim)
    found: dict[str, tuple[AxisEntry, ...]] = {}
    for name, entry in (("q", queries), ("k", keys), ("v", keys)):
        found[f"{at}.self_attn.{name}_proj.weight"] = (entry, None)
        found[f"{at}.self_attn.{name}_proj.bias"] = (entry,)
    for name in ("gate", "up"):
        found[f"{at}.mlp.{name}_proj.weight"] = (hidden, None)
        found[f"{at}.mlp.{name}_proj.bias"] = (hidden,)
    found[f"{at}.self_attn.o_proj.weight"] = (None, queries)
    found[f"{at}.mlp.down_proj.weight"] = (None, hidden)
    return found


def import_transformers() -> Any:
    """Import ``transformers``, or name the extra that brings it."""
    return import_extra("transformers", "a model of Hugging Face", "llm")


def llama(module: Any, *, shared_blocks: Sequence[int] = ENDS) -> Llama:
    """Make a model of a causal module of the Llama family, with the weights it has.

    Args:
        module: ``LlamaForCausalLM``, ``MistralForCausalLM`` or ``Qwen2ForCausalLM``.
        shared_blocks: blocks that every worker has whole; negative numbers count from the end.

    Raises:
        ValueError: if the module is of another family, or drops out or stretches positions as
            they come.
    """
    made = module.config
    refuse_unlike_llama(made)
    depth = made.num_hidden_layers
    if any(not -depth <= place < depth for place in shared_blocks):
        raise ValueError(f"shared_blocks={tuple(shared_blocks)}, but there are {depth} blocks")
    params = {name: t.detach().clone() for name, t in module.named_parameters()}
    rotary = module.model.rotary_emb
    heads, groups = made.num_attention_heads, made.num_key_value_heads
    dim = params["model.layers.0.self_attn.k_proj.weight"].shape[0] // groups
    shared = {place % depth for place in shared_blocks}
    layers = [lay_llama_axes(i, heads // groups, dim) for i in range(depth) if i not in shared]
    axes = {n: entries for each in layers for n, entries in each.items() if n in params}
    frequency = rotary.inv_freq.detach().clone()
    sliding = "sliding_attention" in (getattr(made, "layer_types", None) or ["sliding_attention"])
    window = getattr(made, "sliding_window", None) if sliding else None
    act, eps = made.hidden_act, made.rms_norm_eps
    shape = LlamaShape(dim, eps, act, frequency, float(rotary.attention_scaling), window)
    return Llama(params, axes, shape, made.to_dict(), tuple(sorted(shared)))


def refuse_unlike_llama(made: Any) -> None:
    """Refuse configurations that this forward pass does not follow."""
    rope = (getattr(made, "rope_parameters", None) or {}).get("rope_type", "default")
    reasons = {
        f"its family is {made.model_type!r}, not one of {FAMILY}": made.model_type not in FAMILY,
        f"its activation is {getattr(made, 'hidden_act', None)!r}, not one of {tuple(ACTS)}": (
            getattr(made, "hidden_act", None) not in ACTS
        ),
        "it drops attention at random": bool(getattr(made, "attention_dropout", 0.0)),
        f"its positions stretch with the text ({rope!r})": rope in ("dynamic", "longrope"),
    }
    wrong = [reason for reason, holds in reasons.items() if holds]
    if wrong:
        raise ValueError(f"cannot cut this model: {'; '.join(wrong)}; change its configuration")


def llama_from_config(config: Any, rng: Generator, *, shared_blocks: Sequence[int] = ENDS) -> Llama:
    """Make a model with fresh first values, drawn as the library draws them.

    Args:
        config: ``LlamaConfig``, ``MistralConfig`` or ``Qwen2Config``.
        rng: the stream of its first values.
        shared_blocks: as in ``llama``.
    """
    refuse_unlike_llama(config)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.set_state(rng.get_state())
        module = import_transformers().AutoModelForCausalLM.from_config(config)
    return llama(module.float(), shared_blocks=shared_blocks)


def rebuild_llama(
    rng: Generator,
    *,
    recipe: Mapping[str, Any],
    shared_blocks: Sequence[int],
    held: Mapping[str, int],
) -> Llama:
    """Build a model again from its ``config()``; a sub-network with the first of every axis."""
    rest = {name: value for name, value in recipe.items() if name != "model_type"}
    config = import_transformers().AutoConfig.for_model(recipe["model_type"], **rest)
    made = llama_from_config(config, rng, shared_blocks=shared_blocks)
    part = Part({axis: torch.arange(count) for axis, count in held.items()})
    small = take_piece(made.params, made.axes, part)
    return Llama(small, made.axes, made.shape, made.recipe, made.shared_blocks)
