"""Attention that sees prompts in front of the text: a wrapper of the implementation in use.

A layer passes ``mops_prompts`` down to it as a keyword, so nothing is kept between calls; where
there are none, the call goes to the implementation in use as it came.

Letters: B rows, T queries, S text keys, P prompts, H heads, G key-value heads, K width of a head.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

PREFIX = "mops_"
SUPPORTED = ("sdpa", "eager")
"""Implementations that take an additive mask."""


@dataclass(frozen=True)
class PromptKeys:
    """Prompts of one adapter as a layer's attention sees them.

    Args:
        key: [B or 1, G, P, K].
        value: likewise.
        bias: added to the scores of the prompts, [B, P].
        scale: of a softmax of their own; None where they share that of the text.
    """

    key: Tensor
    value: Tensor
    bias: Tensor
    scale: Tensor | None = None


def attend_with_prompts(
    inner: Callable[..., tuple[Tensor, Any]],
    module: nn.Module,
    qkv: tuple[Tensor, Tensor, Tensor],
    mask: Tensor | None,
    prompts: Sequence[PromptKeys],
    options: dict[str, Any],
) -> tuple[Tensor, Any]:
    """Attend to a text and to prompts in front of it.

    Args:
        inner: the implementation in use.
        module: the attention module.
        qkv: queries [B, H, T, K], keys and values [B, G, S, K].
        mask: of the text, as ``inner`` takes it.
        prompts: of the adapters that are active.
        options: others that ``inner`` takes.
    """
    query, key, value = qkv
    joint = [one for one in prompts if one.scale is None]
    if joint:
        key, value = trim_empty(query, key, value, mask)
        bias_BP = joint[0].bias if len(joint) == 1 else torch.cat([one.bias for one in joint], -1)
        mask = widen_mask(mask, bias_BP, query, key.shape[2])
        rows = query.shape[0]
        key = torch.cat([*(spread(one.key, rows) for one in joint), key], 2)
        value = torch.cat([*(spread(one.value, rows) for one in joint), value], 2)
    out, weights = inner(module, query, key, value, mask, **options)
    for one in prompts:
        if one.scale is not None:
            rows = query.shape[0]
            held = [spread(tensor, rows) for tensor in (one.key, one.value)]
            open_BTP = query.new_zeros(rows, 1, query.shape[2], held[0].shape[2])
            extra, _ = inner(module, query, *held, open_BTP, **options)
            out = out + one.scale.to(out.dtype) * extra
    return out, weights


def spread(tensor: Tensor, rows: int) -> Tensor:
    """Give every row what is there once, [B, ...]; a view, and the tensor itself where it is so."""
    return tensor if tensor.shape[0] == rows else tensor.expand(rows, -1, -1, -1)


def trim_empty(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Leave out places of a cache that nothing was written to yet: without a mask, all behind."""
    length = query.shape[2]
    if mask is None and 1 < length < key.shape[2]:
        return key[:, :, :length], value[:, :, :length]
    return key, value


def widen_mask(mask: Tensor | None, bias_BP: Tensor, query: Tensor, keys: int) -> Tensor:
    """Put the columns of the prompts in front of an additive mask, [B, 1, T, P + S]."""
    rows, length, least = query.shape[0], query.shape[2], torch.finfo(query.dtype).min
    front = bias_BP.clamp_min(least).to(query.dtype)[:, None, None]
    if mask is None and length == 1:
        return F.pad(front, (0, keys))  # a decoded token, which sees all of the text
    zero = query.new_zeros(())
    if mask is None:
        mask = torch.ones(length, keys, dtype=torch.bool, device=query.device).tril()[None, None]
    if mask.dtype == torch.bool:
        mask = torch.where(mask, zero, least)
    mask = mask.expand(rows, -1, length, -1)
    return torch.cat([front.expand(-1, mask.shape[1], length, -1), mask], -1)


def find_eager(module: nn.Module) -> Callable[..., tuple[Tensor, Any]]:
    """Find the eager attention of a model, which stands beside its attention class."""
    return sys.modules[type(module).__module__].eager_attention_forward


def find_sdpa(_module: nn.Module) -> Callable[..., tuple[Tensor, Any]]:
    """Give torch's scaled dot product, which is that of every model."""
    return sdpa_attention_forward


def attend_through(
    find: Callable[[nn.Module], Callable[..., tuple[Tensor, Any]]],
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, Any]:
    """Attend by the implementation that is found for a module, prompts in front."""
    options.pop("mops_context", None)
    prompts = options.pop("mops_prompts", ())
    qkv = query, key, value
    return attend_with_prompts(find(module), module, qkv, attention_mask, prompts, options)


def register_attention() -> None:
    """Make the two known to transformers under their names; masks stay those in use."""
    kinds = {"sdpa": (find_sdpa, sdpa_mask), "eager": (find_eager, eager_mask)}
    for name, (find, mask) in kinds.items():
        AttentionInterface.register(PREFIX + name, partial(attend_through, find))
        AttentionMaskInterface.register(PREFIX + name, mask)


def switch_attention(model: Any) -> None:
    """Switch a model to the wrapper of the implementation that it uses.

    Raises:
        ValueError: if its attention cannot be given prompts.
    """
    current = model.config._attn_implementation  # noqa: SLF001
    if current.startswith(PREFIX):
        return
    if not model._can_set_attn_implementation():  # noqa: SLF001
        raise ValueError(
            f"{type(model).__name__} does not use the attention interface of transformers, which "
            "prompts come in by; choose a model that does"
        )
    if current not in SUPPORTED:
        raise ValueError(
            f"attention {current!r} takes no additive mask, which carries the gate; load the model "
            f"with attn_implementation='sdpa' (or one of {SUPPORTED})"
        )
    if getattr(model.config, "reorder_and_upcast_attn", False):
        raise ValueError("reorder_and_upcast_attn=True bypasses the attention interface; unset it")
    model.set_attn_implementation(PREFIX + current)


def check_attention(model: Any) -> None:
    """Refuse to leave prompts out where somebody changed the implementation afterwards.

    Raises:
        ValueError: if so.
    """
    current = model.config._attn_implementation  # noqa: SLF001
    if not str(current).startswith(PREFIX):
        raise ValueError(
            f"attention was set to {current!r} after the adapter was added, which knows no "
            f"prompts; set it to {PREFIX + 'sdpa'!r} or {PREFIX + 'eager'!r}"
        )


def restore_attention(model: Any) -> None:
    """Switch back."""
    current = model.config._attn_implementation  # noqa: SLF001
    if current.startswith(PREFIX):
        model.set_attn_implementation(current.removeprefix(PREFIX))
