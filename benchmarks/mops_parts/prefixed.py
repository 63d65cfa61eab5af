"""PEFT's prefix tuning as a model of the federation: its prefix is what is trained and averaged.

Letters: B rows, T positions, V tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor
from torch.func import functional_call

from benchmarks.mops_parts.records import Study
from benchmarks.mops_parts.rivals import add_prefix
from moiety.core.axes import Axes
from moiety.core.protocols import Kept
from moiety.core.types import Batch, Params
from moiety.data.records import PADDING, show_tokens

PREFIX = "prompt_encoder.default.embedding.weight"


@dataclass(frozen=True)
class PrefixedLM:
    """A frozen language model behind a prefix of keys and values in all blocks."""

    params: Params
    tuned: Any
    axes: Axes = field(default_factory=dict)
    buffers: Mapping[str, str] = field(default_factory=dict)
    draws_noise: bool = False
    uses_batch_statistics: bool = False

    def config(self) -> Mapping[str, Any]:
        """Say what this is; it is not built again."""
        return {"kind": "prefixed"}

    def redraw(self, rng: Generator, /) -> Params:
        """Give the first values: they come from a text."""
        del rng
        return dict(self.params)

    def features(self, params: Params, batch: Batch, /) -> Tensor:
        """Average the scores over positions, [B, V]."""
        return self.logits(params, batch, {}).mean(1)

    def logits(self, params: Params, batch: Batch, kept: Kept, /) -> Tensor:
        """Score the token that follows each, [B, T, V]."""
        del kept
        x_BT = batch["x"]
        told = {"input_ids": show_tokens(x_BT), "attention_mask": (x_BT != PADDING).long()}
        return functional_call(self.tuned, {PREFIX: params["prefix"]}, (), told).logits

    def forward(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        return self.logits(params, batch, kept), {}


def make_prefixed(study: Study) -> PrefixedLM:
    """Put PEFT's prefix, started from the text, into a copy of the model."""
    tuned = add_prefix(study).eval()
    tuned.base_model.set_attn_implementation("eager")  # as of the others over workers
    with torch.no_grad():
        return PrefixedLM({"prefix": tuned.get_parameter(PREFIX).detach().clone()}, tuned)
