"""PEFT's prefix tuning as a model of the federation: its prefix is what is trained and averaged.

Letters: B rows, T positions, V tokens.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor
from torch.func import functional_call

from benchmarks.mops_parts.records import Study
from benchmarks.mops_parts.rivals import add_prefix
from moiety.core.types import Batch, Params
from moiety.data.records import PADDING, show_tokens
from moiety.prompts.single import FrozenLM

PREFIX = "prompt_encoder.default.embedding.weight"


def score_behind(tuned: Any, params: Params, batch: Batch) -> Tensor:
    """Score the token that follows each, [B, T, V], behind keys and values in all blocks."""
    x_BT = batch["x"]
    told = {"input_ids": show_tokens(x_BT), "attention_mask": (x_BT != PADDING).long()}
    return functional_call(tuned, {PREFIX: params["prefix"]}, (), told).logits


def make_prefixed(study: Study) -> FrozenLM:
    """Put PEFT's prefix, started from the text, into a copy of the model."""
    tuned = add_prefix(study).eval()
    tuned.base_model.set_attn_implementation("eager")  # as of the others over workers
    start = {"prefix": tuned.get_parameter(PREFIX).detach().clone()}
    return FrozenLM(start, {}, partial(score_behind, tuned), {"kind": "prefixed"})
