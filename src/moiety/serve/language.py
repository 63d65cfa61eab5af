"""A frozen language model with prompts as a network by name; its library is imported when used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Generator

from moiety.models.base import FeatureModel


def build_lm(
    shape: Sequence[int],
    classes: int,
    rng: Generator,
    *,
    folder: str = "",
    experts: int = 4,
    prompts: int = 4,
    gate_layer: int = 0,
    gate_hidden: int = 32,
    top_k: int = 0,
    start: str = "",
    length: int = 64,
    dtype: str = "float32",
    attention: str = "sdpa",
) -> FeatureModel:
    """Put prompts and a gate into a frozen language model.

    Args:
        shape: tokens of a row, [1].
        classes: tokens that the model knows.
        rng: the stream of the tokens that prompts start from.
        folder: of the language model (files of ``save_pretrained``, or one GGUF file); empty for a
            tiny Llama of letters that was never trained.
        experts: groups of prompts.
        prompts: prompts of a group, in each block behind the gate.
        gate_layer: blocks in front of the gate; 0 for ten of every 32.
        gate_hidden: hidden units of the gate.
        top_k: experts that are open for a request; 0 for all.
        start: the text that prompts start from; random tokens if empty.
        length: tokens of a record that are read.
        dtype: of the frozen numbers, ``float32`` or ``bfloat16``.
        attention: ``sdpa``, or ``eager``, which the engine ``vectorized`` needs.
    """
    from moiety.prompts.network import build_prompted  # transformers and peft are an extra

    del shape, classes
    choices: dict[str, Any] = {
        "folder": folder, "experts": experts, "prompts": prompts, "gate_layer": gate_layer,
        "gate_hidden": gate_hidden, "top_k": top_k, "start": start, "length": length,
        "dtype": dtype, "attention": attention,
    }  # fmt: skip
    return build_prompted(rng, choices)


def rebuild_lm(rng: Generator, **config: Any) -> FeatureModel:
    """Build a network again from its ``config()``."""
    from moiety.prompts.network import rebuild_prompted  # as above

    return rebuild_prompted(rng, config)
