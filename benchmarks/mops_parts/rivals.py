"""What is put into the frozen model: prompts with a gate, and what PEFT has; all start alike.

Prompts of every kind start from one text, LoRA and (IA)3 as PEFT starts them: at the bare model.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.mops_parts.records import SKILLS, Record, Study, pad_records
from moiety.prompts import GateTraining, MopsConfig, pretrain_gate, read_requests
from moiety.prompts.starts import project_start, record_inputs

EACH = 2
"""Prompts of an expert."""

TEXT = "Read what is given, find out which task it is, and write the answer in a few words: "


@dataclass(frozen=True)
class Rival:
    """A method: what it puts into the model, and the learning rates that are tried."""

    add: Callable[[Study], Any]
    rates: tuple[float, ...]


def wrap_copy(study: Study, config: Any) -> Any:
    """Put an adapter into a copy of the model."""
    from peft import get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_peft_model(copy.deepcopy(study.model), config)


def add_prompts(study: Study, *, noise: bool = False) -> Any:
    """Prompt tuning with as many prompts as all experts have: of the text, or PEFT's noise."""
    from peft import PromptTuningConfig

    count = SKILLS * EACH
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=count)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tuned = wrap_copy(study, config)
    if noise:
        return tuned
    ids = (study.tokenizer.encode(TEXT) * count)[:count]
    with torch.no_grad():
        start = study.model.get_input_embeddings()(torch.tensor(ids))
        tuned.prompt_encoder["default"].embedding.weight.copy_(start)
    return tuned


def add_prefix(study: Study, *, noise: bool = False) -> Any:
    """Prefix tuning in all layers, as many numbers as MoPs: of the text, or PEFT's noise."""
    from peft import PrefixTuningConfig, initialize_kv_prefix_from_text

    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=14)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tuned = wrap_copy(study, config)
    if noise:
        return tuned
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        initialize_kv_prefix_from_text(
            tuned, study.tokenizer.inner, text=TEXT * 8, use_chat_template=False
        )
    return tuned


def add_lora(study: Study) -> Any:
    """LoRA of rank 3 on queries and values: as many numbers as MoPs."""
    from peft import LoraConfig

    with torch.random.fork_rng():
        torch.manual_seed(0)
        targets = ["q_proj", "v_proj"]
        return wrap_copy(study, LoraConfig(task_type="CAUSAL_LM", r=3, target_modules=targets))


def add_ia3(study: Study) -> Any:
    """(IA)3: scales of keys, values and hidden units."""
    from peft import IA3Config

    return wrap_copy(study, IA3Config(task_type="CAUSAL_LM"))


def add_mixture(study: Study, *, labels: bool = True, **more: Any) -> Any:
    """A mixture of prompts; its gate is taught on the training records, by skill or by clusters."""
    tuned = add_untaught(study, **more)
    if tuned.peft_config["default"].has_gate:
        some = study.train
        batches = [pad_records(some[at : at + 16]) for at in range(0, len(some), 16)]
        skills = torch.tensor([one.skill for one in some])
        z = read_requests(tuned, batches)
        told = skills if labels else None
        fit = pretrain_gate(tuned, z, told, training=GateTraining(lr=5e-3))
        print(f"    gate: accuracy {fit.accuracy:.2f}, confidence {fit.confidence:.2f}", flush=True)
    return tuned


def add_untaught(study: Study, each: int = EACH, **more: Any) -> Any:
    """A mixture of prompts that start from the text, its gate as the tuner makes it."""
    config = MopsConfig(
        task_type="CAUSAL_LM",
        num_experts=SKILLS,
        prompts_per_expert=each,
        gate_hidden_size=32,
        **more,
    )
    tuned = wrap_copy(study, config).eval()
    start_from_text(study, tuned)
    return tuned


def add_drawn(study: Study) -> Any:
    """A mixture of prompts whose gate was drawn, knows nothing, and stays so."""
    tuned = add_untaught(study, train_gate=False)
    tuned.base_model.adapters(["default"])["default"].gate.redraw(1)
    return tuned


def start_from_text(study: Study, tuned: Any) -> None:
    """Let all prompts start from the hidden states of the text, a stretch of it each."""
    layers = tuned.base_model.layers()
    shape = next(iter(layers.values())).mops_prompts["default"].shape[:2]
    ids = (study.tokenizer.encode(TEXT) * 8)[: shape[0] * shape[1]]
    given = record_inputs(tuned.base_model.model, torch.tensor([ids]))
    with torch.no_grad():
        for place, layer in layers.items():
            start = given[place][0].view(*shape, -1)
            if tuned.peft_config["default"].prompt_space == "kv":
                start = project_start(layer, start)
            layer.mops_prompts["default"].copy_(start)


def tell_rows(tuned: Any, some: Sequence[Record], labels_BT: Tensor) -> dict[str, Any]:
    """Tell a mixture where the answer begins, and one that has an oracle the skill of each row."""
    configs = getattr(tuned, "peft_config", {}).values()
    mine = next((config for config in configs if config.peft_type == "MOPS"), None)
    if mine is None:
        return {}
    oracle = {"expert_ids": [one.skill for one in some]} if mine.gate_mode == "oracle" else {}
    return {"labels": labels_BT, **oracle}


RIVALS: Mapping[str, Rival] = {
    "prompt tuning": Rival(add_prompts, (1e-2, 3e-2, 1e-1)),
    "MoPs": Rival(add_mixture, (1e-2, 3e-2, 3e-3)),
    "deep prompts, no gate": Rival(
        lambda study: add_mixture(study, gate_mode="none"), (1e-2, 3e-2, 3e-3)
    ),
    "prefix tuning": Rival(add_prefix, (1e-2, 3e-2, 1e-1)),
    "LoRA": Rival(add_lora, (1e-3, 3e-3, 1e-2)),
    "oracle": Rival(lambda study: add_mixture(study, gate_mode="oracle"), (1e-2, 3e-2)),
    "MoPs, gate by clusters": Rival(lambda study: add_mixture(study, labels=False), (1e-2, 3e-2)),
    "MoPs, top 1": Rival(lambda study: add_mixture(study, top_k=1), (1e-2, 3e-2)),
    "MoPs, keys and values": Rival(
        lambda study: add_mixture(study, each=3, prompt_space="kv"), (1e-2, 3e-2)
    ),
    "(IA)3": Rival(add_ia3, (1e-2, 3e-2, 1e-1)),
    "MoPs, gate drawn and frozen": Rival(add_drawn, (1e-2, 3e-2)),
    "prompt tuning from noise": Rival(lambda study: add_prompts(study, noise=True), (1e-2, 3e-2)),
    "prefix tuning from noise": Rival(lambda study: add_prefix(study, noise=True), (1e-2, 3e-2)),
}
