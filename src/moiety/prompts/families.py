"""What tells one family of language models from another: where its blocks are, how it projects.

Letters: N prompts, D width, H key-value heads, K width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor, nn

Projected: TypeAlias = tuple[Tensor, Tensor]
"""Keys and values, [..., N, H, K]."""


@dataclass(frozen=True)
class Family:
    """A family of models.

    Args:
        blocks: where its blocks are within the model.
        attention: how a block calls its self-attention.
        project: an attention module and hidden states [..., N, D] -> keys and values.
        rotates: whether positions are rotations, told to blocks as ``position_embeddings``.
    """

    blocks: str
    attention: str
    project: Callable[[Any, Tensor], Projected]
    rotates: bool = True

    def find_blocks(self, model: nn.Module) -> Sequence[nn.Module]:
        """Find the blocks of a model."""
        return list(model.get_submodule(self.blocks).children())

    def name_attention(self, layer: int) -> str:
        """Name the attention of a block within the model."""
        return f"{self.blocks}.{layer}.{self.attention}"


def project_apart(attention: Any, x_ND: Tensor) -> Projected:
    """Project with a matrix for keys and one for values, as Llama does."""
    shape = (*x_ND.shape[:-1], -1, attention.head_dim)
    return attention.k_proj(x_ND).view(shape), attention.v_proj(x_ND).view(shape)


def project_in_thirds(attention: Any, x_ND: Tensor) -> Projected:
    """Project with one matrix, queries before keys before values, as GPT-2 does."""
    shape = (*x_ND.shape[:-1], -1, attention.head_dim)
    _, key, value = attention.c_attn(x_ND).split(attention.split_size, -1)
    return key.reshape(shape), value.reshape(shape)


def project_by_head(attention: Any, x_ND: Tensor) -> Projected:
    """Project with one matrix, queries, keys and values of each head together, as GPT-NeoX does."""
    shape = (*x_ND.shape[:-1], -1, 3 * attention.head_size)
    _, key, value = attention.query_key_value(x_ND).view(shape).chunk(3, -1)
    return key, value


LLAMA = Family("model.layers", "self_attn", project_apart)

FAMILIES = {
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "gpt2": Family("transformer.h", "attn", project_in_thirds, rotates=False),
    "gpt_neox": Family("gpt_neox.layers", "attention", project_by_head),
}


def find_family(model: Any) -> Family:
    """Find the family of a model.

    Raises:
        ValueError: if the model is of no family that is known, or only a part of one.
    """
    kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    check_kind(kind)
    family = FAMILIES[kind]
    if family.blocks not in dict(model.named_modules()):
        raise ValueError(
            f"{type(model).__name__} has no {family.blocks!r}; give the causal language model "
            "(AutoModelForCausalLM), not its inner part"
        )
    return family


def check_kind(kind: str) -> None:
    """Refuse a type of models that is of no family that is known.

    Raises:
        ValueError: with those that are.
    """
    if kind not in FAMILIES:
        raise ValueError(
            f"a mixture of prompts cannot be put into a model of type {kind!r}; choose one of "
            f"{', '.join(FAMILIES)}"
        )
