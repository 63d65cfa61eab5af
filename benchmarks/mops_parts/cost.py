"""What a mixture of prompts costs: decoding a token, a training step, its memory; X-LoRA beside.

Seconds are of the processor and in pairs, one of each side in turn, so that what else the machine
does falls on both. Memory is the bytes that a forward pass keeps for the backward pass.
"""

from __future__ import annotations

import copy
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks.mops_parts.records import SKILLS, Study, pad_records
from benchmarks.mops_parts.rivals import add_mixture, add_prompts, tell_rows, wrap_copy

REPEATS = 4
ROWS, SHORT, LONG = 6, 4, 20
"""Records in a step; tokens of the shorter and of the longer text that is decoded."""


def time_pairs(takes: Mapping[str, Callable[[], Any]]) -> dict[str, list[float]]:
    """Take the processor's seconds of some things in turn, several times after a first one."""
    spent: dict[str, list[float]] = {name: [] for name in takes}
    for place in range(1 + REPEATS):
        for name, take in takes.items():
            begun = time.process_time()
            take()
            if place:
                spent[name].append(time.process_time() - begun)
    return spent


def decode(model: Any, ids: Tensor, length: int) -> None:
    """Decode so many tokens, greedily, none of which ends the text."""
    told = {"max_new_tokens": length, "min_new_tokens": length, "do_sample": False}
    with torch.no_grad():
        model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **told)


def measure_decoding(study: Study, add: Callable[[Study], Any]) -> dict[str, list[float]]:
    """Give the seconds of a decoded token beside the bare model: a long text less a short one."""
    models = {"bare": copy.deepcopy(study.model), "mine": add(study)}
    ids = torch.tensor([study.train[0].ids[:24]])
    takes = {
        f"{name} {length}": lambda model=model, length=length: decode(model.eval(), ids, length)
        for name, model in models.items()
        for length in (SHORT, LONG)
    }
    spent = time_pairs(takes)
    return {
        name: [
            (long - short) / (LONG - SHORT)
            for short, long in zip(spent[f"{name} {SHORT}"], spent[f"{name} {LONG}"], strict=True)
        ]
        for name in models
    }


def measure_steps(study: Study) -> dict[str, Any]:
    """Give the seconds of a training step, and the bytes that are kept for its backward pass."""
    models = {
        "prompt tuning": add_prompts(study),
        "MoPs": add_mixture(study),
        "X-LoRA": add_xlora(study),
    }
    some = study.train[:ROWS]
    batch = pad_records(some)
    losses: dict[str, Callable[[], Any]] = {
        name: lambda tuned=tuned: tuned(**{**batch, **tell_rows(tuned, some, batch["labels"])}).loss
        for name, tuned in models.items()
    }
    kept = models["MoPs"].base_model.read_below(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
    )
    rest = {name: batch[name] for name in ("attention_mask", "labels")}
    losses["MoPs, blocks below kept"] = lambda: models["MoPs"](below=kept, **rest).loss
    for tuned in models.values():
        tuned.train()
    steps = {name: lambda loss=loss: loss().backward() for name, loss in losses.items()}
    held = {name: count_kept(loss) for name, loss in losses.items()}
    return {"seconds": time_pairs(steps), "kept_bytes": held}


def count_kept(loss: Callable[[], Tensor]) -> int:
    """Count the bytes that a forward pass keeps, parameters of the model left out."""
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter) and not tensor.is_leaf:
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = loss()
        total = sum(seen.values())
    del out
    return total


def add_xlora(study: Study) -> Any:
    """X-LoRA over as many LoRA adapters as there are skills, of rank 3 as LoRA here has."""
    from peft import LoraConfig, XLoraConfig

    config = LoraConfig(task_type="CAUSAL_LM", r=3, target_modules=["q_proj", "v_proj"])
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrap_copy(study, config).save_pretrained(folder)
        paths = {str(place): folder for place in range(SKILLS)}  # names PEFT gives them
        base = copy.deepcopy(study.model)
        base.config.use_cache = False  # it refuses a cache
        choices = XLoraConfig(
            task_type="CAUSAL_LM", hidden_size=base.config.hidden_size, adapters=paths
        )
        from peft import get_peft_model

        return get_peft_model(base, choices)


COSTS: Mapping[str, Callable[[Study], dict[str, Any]]] = {
    "cost: training": measure_steps,
    "cost: decoding, MoPs": lambda study: measure_decoding(study, add_mixture),
    "cost: decoding, X-LoRA": lambda study: measure_decoding(study, add_xlora),
}
