"""A language model with prompts as a network of recipes: built from a folder and a few choices."""

from __future__ import annotations

import copy
import functools
import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from peft import get_peft_model
from torch import Generator, Tensor

from moiety.models.base import FeatureModel
from moiety.prompts.base import open_language
from moiety.prompts.config import MopsConfig
from moiety.prompts.edit import find_tuner
from moiety.prompts.families import find_family
from moiety.prompts.language import PromptedLM, make_prompted
from moiety.prompts.low_rank import make_low_rank
from moiety.prompts.places import read_positions
from moiety.prompts.starts import record_inputs, tile_tokens

SHAPE = ("experts", "prompts", "gate_layer", "gate_hidden", "top_k")
"""What the module is made of."""


def build_prompted(rng: Generator, choices: Mapping[str, Any]) -> PromptedLM:
    """Build a frozen language model with prompts and a gate.

    Args:
        rng: the stream of the tokens that prompts start from.
        choices: ``folder``, ``dtype``, ``attention``, ``start`` and those in ``SHAPE``.

    Raises:
        ValueError: for a folder without a model, and for choices that do not fit it.
    """
    if torch.empty(0).device.type == "meta":
        raise ValueError(
            "a language model is opened whole, so it cannot be planned or cut into blocks from its "
            "shapes alone; measure its first rounds by moiety profile"
        )
    where = choices["folder"], choices["dtype"], choices["attention"]
    for name in ("experts", "prompts", "gate_hidden"):
        if choices[name] < 1:
            raise ValueError(f"lm.{name}={choices[name]}; choose a whole number of at least 1")
    language = open_language(*where)
    check_length(language.model, choices["length"])
    tuned = open_tuned(*where, *(choices[name] for name in SHAPE))
    shape = choices["experts"], choices["prompts"]
    if choices["start"]:
        read = language.tokenizer.encode(choices["start"])
        tokens_EM = tile_tokens([read], shape[0] * shape[1]).view(shape)
    else:
        tokens_EM = torch.randint(len(language.tokenizer.names), shape, generator=rng)
    model = make_prompted(tuned)
    given = record_inputs(find_tuner(tuned).model, tokens_EM)
    starts = {
        name: given[int(name.removeprefix("prompts."))].float()
        for name in model.params
        if name.startswith("prompts.")
    }
    about = {**choices, "base": digest_base(model.constants)}
    return replace(model, params={**model.params, **starts}, first=tokens_EM, about=about)


def check_length(model: Any, length: int) -> None:
    """Refuse records that are longer than what the model has positions for.

    Raises:
        ValueError: if they are, or the model is of no family that is known.
    """
    find_family(model)
    most = read_positions(model.config.to_dict())
    if length > most:
        raise ValueError(
            f"lm.length={length}, but the language model reads {most} tokens; choose at most that"
        )


@functools.lru_cache(maxsize=1)
def open_tuned(folder: str, dtype: str, attention: str, *shape: int) -> Any:
    """Put prompts and a gate into a copy of the language model; nothing of it is changed later."""
    experts, prompts, gate_layer, gate_hidden, top_k = shape
    config = MopsConfig(
        task_type="CAUSAL_LM",
        num_experts=experts,
        prompts_per_expert=prompts,
        gate_layer=gate_layer or None,
        gate_hidden_size=gate_hidden,
        top_k=top_k or None,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of a property that PEFT asks
        model = copy.deepcopy(open_language(folder, dtype, attention).model)
        return get_peft_model(model, config).eval()


def rebuild_prompted(rng: Generator, config: Mapping[str, Any]) -> FeatureModel:
    """Build again what ``config()`` says; values of prompts and gate are set by whoever loads.

    Raises:
        ValueError: if the folder holds another language model than that of training.
    """
    besides = ("base", "single", "low_rank", "taught")
    choices = {name: value for name, value in config.items() if name not in besides}
    model = build_prompted(rng, choices)
    if model.about["base"] != config["base"]:
        raise ValueError(
            f"the language model in lm.folder={choices['folder']!r} is not the one that this was "
            "trained with; bring that one back"
        )
    if "low_rank" in config:
        return make_low_rank(model.tuned, model.about, config["low_rank"], rng)
    single = config.get("single", "")
    if single:
        return model.make_single(deep=single == "deep")
    return replace(model, taught=config.get("taught", False))


def digest_base(constants: Mapping[str, Tensor]) -> str:
    """Tell a frozen model from others: by names, shapes, and some numbers of each tensor."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(constants.items()):
        some = tensor.flatten()[:64].float().cpu().numpy().tobytes()
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype}".encode() + some)
    return digest.hexdigest()
