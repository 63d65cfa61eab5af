"""One prompt in front of the input of a frozen language model: prompt tuning, without a gate.

Letters: B rows, T positions, P prompts, D width, V tokens.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PromptTuningConfig, get_peft_model
from torch import Generator, Tensor
from torch.func import functional_call

from moiety.core.axes import Axes
from moiety.core.protocols import Kept
from moiety.core.types import Batch, Params
from moiety.data.records import show_tokens
from moiety.prompts.edit import find_tuner, list_frozen


@dataclass(frozen=True)
class FrontScore:
    """Scores a text behind the prompt ``prompt`` [P, D].

    Args:
        tuned: the module that computes; its own prompts stay out of it.
    """

    tuned: Any

    def __call__(self, params: Params, batch: Batch, /) -> Tensor:
        model: Any = find_tuner(self.tuned).model
        text_BTD = model.get_input_embeddings()(show_tokens(batch["x"]))
        front_BPD = params["prompt"].to(text_BTD.dtype).expand(len(text_BTD), -1, -1)
        told = {"inputs_embeds": torch.cat([front_BPD, text_BTD], 1), "use_cache": False}
        out = functional_call(model, {}, (), {**told, "mops_context": None})
        return out.logits[:, front_BPD.shape[1] :]

    def copy_bare(self) -> Any:
        """Copy the language model without prompts; the two share its frozen numbers."""
        shared: dict[int, Any] = {id(p): p for p in find_tuner(self.tuned).model.parameters()}
        return find_tuner(copy.deepcopy(self.tuned, shared)).unload()


@dataclass(frozen=True)
class FrozenLM:
    """A frozen language model and what is trained beside it, without a gate.

    Args:
        params: what is trained.
        constants: the frozen model.
        score: scores the token that follows each, [B, T, V], from parameters and a batch.
        about: how the model is built again.
    """

    params: Params
    constants: Params
    score: FrontScore
    about: Mapping[str, Any]
    axes: Axes = field(default_factory=dict)
    buffers: Mapping[str, str] = field(default_factory=dict)
    draws_noise: bool = False
    uses_batch_statistics: bool = False

    def config(self) -> Mapping[str, Any]:
        """Say how to build this again."""
        return self.about

    def redraw(self, rng: Generator, /) -> Params:
        """Give the first values: they come from tokens, and nothing of them is drawn."""
        del rng
        return dict(self.params)

    def features(self, params: Params, batch: Batch, /) -> Tensor:
        """Average the scores over positions, [B, V]."""
        return self.score(params, batch).mean(1)

    def logits(self, params: Params, batch: Batch, kept: Kept, /) -> Tensor:
        """Score the token that follows each, [B, T, V]."""
        del kept
        return self.score(params, batch)

    def forward(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        return self.logits(params, batch, kept), {}

    @torch.no_grad()
    def save_adapter(self, params: Params, folder: str | Path) -> None:
        """Save what was learnt as an adapter of PEFT: its prompt tuning."""
        prompt_PD = params["prompt"]
        config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=len(prompt_PD))
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore", FutureWarning)  # of a property that PEFT asks
            tuned: Any = get_peft_model(self.score.copy_bare(), config)
        tuned.prompt_encoder["default"].embedding.weight.copy_(prompt_PD)
        tuned.save_pretrained(str(folder))


@torch.no_grad()
def make_single_prompt(tuned: Any, tokens: Tensor, about: Mapping[str, Any]) -> FrozenLM:
    """Make a model with as many prompts as there are tokens, which they start from.

    Raises:
        ValueError: if it is not known what prompts are to start from.
    """
    if not tokens.numel():
        raise ValueError(
            "a single prompt starts from the tokens that the experts' prompts started from, which "
            "are not known of this model; build it by moiety.prompts.network.build_prompted"
        )
    model: Any = find_tuner(tuned).model
    start_PD = model.get_input_embeddings()(tokens.flatten().to(model.device)).float().clone()
    constants = list_frozen(tuned)
    told = {"kind": "lm", **about, "single": "input"}
    return FrozenLM({"prompt": start_PD}, constants, FrontScore(tuned), told)
