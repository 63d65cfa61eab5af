"""A language model with LoRA of PEFT as a model of the federation: the frozen part is a constant.

Factors are named by the matrix that they are added to: ``model.layers.0.self_attn.q_proj.a``
[R, I] and ``.b`` [O, R], on the axis ``rank``. Rows are those of ``moiety.prompts.language``.
Letters: B rows, T positions, R rank, V tokens.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Generator, Tensor
from torch.func import functional_call

from moiety.core.axes import Axes
from moiety.core.protocols import Kept
from moiety.core.types import Batch, Params
from moiety.data.records import PADDING, show_tokens
from moiety.models.init import draw_uniform
from moiety.models.low_rank import name_axes
from moiety.prompts.edit import find_tuner

ADAPTER = "default"
FACTORS = {"a": f"lora_A.{ADAPTER}.weight", "b": f"lora_B.{ADAPTER}.weight"}
"""How a factor is named here -> how PEFT does."""


@dataclass(frozen=True)
class LowRankLM:
    """A frozen language model and factors that are added to its matrices.

    Args:
        params: the factors.
        axes: the axis ``rank`` of each.
        constants: the frozen model.
        tuned: the module that computes; nothing of it is changed.
        modules: the layers that are added to, by their names in the language model.
        about: how the model is built again.
        choices: rank, scale and targets.
    """

    params: Params
    axes: Axes
    constants: Params
    tuned: Any
    modules: tuple[str, ...]
    about: Mapping[str, Any]
    choices: Mapping[str, Any]
    buffers: Mapping[str, str] = field(default_factory=dict)
    draws_noise: bool = False
    uses_batch_statistics: bool = False

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Name the factors that are multiplied."""
        return tuple((f"{name}.b", f"{name}.a") for name in self.modules)

    def config(self) -> Mapping[str, Any]:
        """Say how to build this again."""
        return {"kind": "lm", **self.about, "low_rank": dict(self.choices)}

    def redraw(self, rng: Generator, /) -> Params:
        """Draw fresh first values."""
        return redraw_factors(self.params, rng)

    def features(self, params: Params, batch: Batch, /) -> Tensor:
        """Average the scores over positions, [B, V]."""
        return self.logits(params, batch, {}).mean(1)

    def logits(self, params: Params, batch: Batch, kept: Kept, /) -> Tensor:
        """Score the token that follows each, [B, T, V]."""
        del kept  # of the axis rank, which ends in the products
        x_BT = batch["x"]
        named = {spell_factor(name): tensor for name, tensor in params.items()}
        told = {"input_ids": show_tokens(x_BT), "attention_mask": (x_BT != PADDING).long()}
        return functional_call(self.tuned, named, (), {**told, "use_cache": False}).logits

    def forward(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        return self.logits(params, batch, kept), {}

    def save_adapter(self, params: Params, folder: str | Path) -> None:
        """Save what was learnt as an adapter of PEFT."""
        save_lora(self, params, folder)


def spell_factor(name: str) -> str:
    """Name a factor as PEFT does.

    >>> spell_factor("model.layers.0.self_attn.q_proj.a")
    'base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight'
    """
    return f"base_model.model.{name[:-2]}.{FACTORS[name[-1]]}"


def redraw_factors(params: Params, rng: Generator) -> Params:
    """Draw right factors as linear layers draw weights; left ones are 0."""
    return {
        name: draw_uniform(t.shape, t.shape[1], rng) if name.endswith(".a") else torch.zeros_like(t)
        for name, t in params.items()
    }


def make_low_rank(
    mixed: Any, about: Mapping[str, Any], choices: Mapping[str, Any], rng: Generator
) -> LowRankLM:
    """Put low-rank parts into the language model beneath a mixture of prompts.

    Args:
        mixed: the tuned model; it stays as it is, and shares the frozen numbers.
        about: how that is built again.
        choices: ``rank``, ``scale``, and ``targets`` as PEFT takes them, none for its own choice.
        rng: the stream of the first values.

    Raises:
        ValueError: if PEFT finds no layer, or one that takes no factors.
    """
    shared: dict[int, Any] = {id(p): p for p in find_tuner(mixed).model.parameters()}
    bare = find_tuner(copy.deepcopy(mixed, shared)).unload()
    rank, targets = choices["rank"], list(choices["targets"])
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=choices["scale"] * rank,  # PEFT divides by the rank
        target_modules=targets or None,
    )
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", FutureWarning)  # of a property that PEFT asks
        warnings.filterwarnings("ignore", "fan_in_fan_out")  # GPT-2 turns its matrices; PEFT too
        try:
            tuned = get_peft_model(bare, config).eval()
        except (ValueError, NotImplementedError) as error:
            raise ValueError(f"lora.targets={targets}: {error}") from error
    return read_factors(tuned, about, choices, rng)


def read_factors(
    tuned: Any, about: Mapping[str, Any], choices: Mapping[str, Any], rng: Generator
) -> LowRankLM:
    """Read the factors off a model that PEFT put them into."""
    named = dict(tuned.named_parameters())
    tail, head = f".{FACTORS['a']}", "base_model.model."
    modules = [n.removeprefix(head).removesuffix(tail) for n in named if n.endswith(tail)]
    names = [f"{module}.{kind}" for module in modules for kind in FACTORS]
    flat = [name for name in names if named[spell_factor(name)].ndim != 2]
    if flat or not names:
        raise ValueError(f"low-rank parts need matrices, but found {flat or 'none'}; name others "
                         "in lora.targets")  # fmt: skip
    held = {name: named[spell_factor(name)].detach().float() for name in names}
    constants = {
        name.removeprefix(head).replace(".base_layer.", "."): p.detach()
        for name, p in named.items()
        if ".lora_" not in name
    }
    params = redraw_factors(held, rng)
    return LowRankLM(params, name_axes(params), constants, tuned, tuple(modules), about, choices)


@torch.no_grad()
def save_lora(model: LowRankLM, params: Params, folder: str | Path) -> None:
    """Save what was learnt as an adapter that ``PeftModel.from_pretrained`` opens.

    Args:
        model: of a finished run (``load_model(folder).model``).
        params: its parameters, whole.
        folder: to write to.
    """
    shared: dict[int, Any] = {id(p): p for n, p in model.tuned.named_parameters()
                              if ".lora_" not in n}  # fmt: skip
    tuned = copy.deepcopy(model.tuned, shared)
    for name, tensor in params.items():
        tuned.get_parameter(spell_factor(name)).copy_(tensor)
    tuned.save_pretrained(str(folder))
