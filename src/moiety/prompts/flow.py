"""Prompts that are put in once and flow upwards as positions in front of the text.

They stand before the text, so they never see it: what becomes of them is computed on its own, once
for a request. They sit unrotated at one place, see those in front of them, and are seen through
their expert's weight by each other as by the text. Letters: B rows, P prompts, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from moiety.prompts.request import Recorder


def flow_prompts(
    blocks: Sequence[nn.Module], prompts_PD: Tensor, bias_BP: Tensor, options: Mapping[str, Any]
) -> Mapping[int, Tensor]:
    """Run prompts through blocks; give what the attention of each is given, by block, [B, P, D].

    Args:
        blocks: those behind the gate, in order.
        prompts_PD: what the first of them is given.
        bias_BP: log of the weight of each prompt.
        options: what the blocks were called with for the text.
    """
    rows, count = bias_BP.shape
    hidden = prompts_PD.expand(rows, -1, -1)
    least = torch.finfo(hidden.dtype).min
    causal_PP = torch.full((count, count), least, dtype=hidden.dtype, device=hidden.device).triu(1)
    seen_BP = bias_BP.clamp_min(least).to(hidden.dtype)
    mask = (causal_PP + seen_BP[:, None, None]).clamp_min(least)
    told = {"attention_mask": mask, **unrotate(options, count)}
    recorder = Recorder()
    for block in blocks:
        hidden = block(hidden, mops_context=recorder, **told)
    return recorder.inputs


def unrotate(options: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Turn the rotations of a text into none, for models that rotate."""
    if "position_embeddings" not in options:
        return {}
    cos, sin = (told[:1, :1] for told in options["position_embeddings"])
    none = torch.ones_like(cos), torch.zeros_like(sin)
    return {"position_embeddings": tuple(one.expand(-1, count, -1) for one in none)}
