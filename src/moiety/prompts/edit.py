"""Experts and adapters as goods: experts added, dropped and joined, adapters summed.

All of it changes the axis of experts of what is there. An optimiser that was made before holds the
old parameters: make it afterwards. Letters: E experts, H hidden units of a gate, D width.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from moiety.prompts.config import OF_GATES, MopsConfig, list_unset
from moiety.prompts.gate import MopsGate
from moiety.prompts.layer import MopsLayer
from moiety.prompts.model import MopsModel

ALIKE = (
    "prompts_per_expert", "gate_layer", "injection_layers", "injection", "prompt_space",
    "gate_mode", "gate_activation", "gate_temperature", "gate_pooling", "gate_context",
)  # fmt: skip
"""What must be equal where experts of one adapter are to stand beside those of another."""


def find_tuner(model: Any) -> MopsModel:
    """Find the tuner in what ``get_peft_model`` returns."""
    tuner = model if isinstance(model, MopsModel) else getattr(model, "base_model", None)
    if not isinstance(tuner, MopsModel):
        raise TypeError(f"{type(model).__name__} has no mixture of prompts; make it by "
                        "get_peft_model(base, MopsConfig(...))")  # fmt: skip
    return tuner


def list_frozen(tuned: Any) -> dict[str, Tensor]:
    """List the tensors of the frozen model, by its own names."""
    held = find_tuner(tuned).model.named_parameters()
    return {name: t.detach() for name, t in held if ".mops_" not in name}


def find_config(tuner: MopsModel, name: str) -> MopsConfig:
    """Find the choices of an adapter.

    Raises:
        ValueError: if there is no such adapter.
    """
    if name not in tuner.peft_config:
        raise ValueError(f"no adapter {name!r}; choose one of {[*tuner.peft_config]}")
    config: Any = tuner.peft_config[name]
    return config


def add_expert(
    model: Any, adapter: str = "default", *, name: str | None = None, init_from: int | None = None
) -> int:
    """Add an expert behind the others; those keep their prompts and scores.

    Args:
        model: the tuned model.
        adapter: to which.
        name: for reports.
        init_from: the expert whose prompts and gate it starts from; None for fresh prompts (hidden
            states of random tokens) and a score of 0, which the gate must still learn.

    Returns:
        Its number.
    """
    tuner = find_tuner(model)
    config = find_config(tuner, adapter)
    count = config.num_experts
    if init_from is None:
        fresh = copy.deepcopy(config)
        fresh.num_experts, fresh.prompt_init, fresh.init_text = 1, "vocabulary", None
        fresh.tokenizer_name_or_path = None
        fresh.top_k, fresh.expert_names, fresh.gate_taught = None, None, False
        fresh.seed = config.seed + count
        tuner.peft_config["mops added"] = fresh
        tuner.inject_adapter(tuner.model, "mops added")
        join_adapters(tuner, adapter, "mops added")
        tuner.delete_adapter("mops added")
        tuner.set_adapter([one for one in tuner.active_adapters if one in tuner.peft_config])
    else:
        check_expert(init_from, count)
        pick_experts(tuner, adapter, [*range(count), init_from])
    if config.expert_names is not None:
        config.expert_names = [*config.expert_names[:count], name or f"expert {count}"]
    return count


def check_expert(index: int, count: int) -> None:
    """Refuse an expert that is not there."""
    if not 0 <= index < count:
        raise ValueError(f"no expert {index}; choose from 0 to {count - 1}")


def drop_expert(model: Any, index: int, adapter: str = "default") -> None:
    """Drop an expert; the gate shares its weight out among the others."""
    tuner = find_tuner(model)
    config = find_config(tuner, adapter)
    check_expert(index, config.num_experts)
    if config.num_experts == 1:
        raise ValueError("this is the only expert; delete the adapter instead")
    pick_experts(tuner, adapter, [e for e in range(config.num_experts) if e != index])


def pick_experts(model: Any, adapter: str, kept: Sequence[int]) -> None:
    """Keep some experts of an adapter, in an order, or one of them twice; in place."""
    tuner = find_tuner(model)
    config = find_config(tuner, adapter)
    ids = torch.tensor(kept)

    def pick(tensor: Tensor) -> Tensor:
        return tensor.index_select(0, ids.to(tensor.device))

    for layer in tuner.layers().values():
        replace_prompts(layer, adapter, pick)
        if adapter in layer.mops_gate:
            gate: Any = layer.mops_gate[adapter]
            for part in (gate.out.weight, gate.out.bias):
                part.data = pick(part.data)
            gate.out.out_features = len(kept)
    names = config.expert_names
    config.expert_names = None if names is None else [names[e] for e in kept]
    config.num_experts = len(kept)
    if config.top_k is not None:
        config.top_k = min(config.top_k, len(kept))
    if isinstance(config.init_text, list):
        config.init_text = [config.init_text[e] for e in kept]


def replace_prompts(layer: MopsLayer, adapter: str, change: Callable[[Tensor], Tensor]) -> None:
    """Change an adapter's prompts of a layer, in place."""
    if adapter in layer.mops_prompts:
        held = layer.mops_prompts[adapter]
        fresh = change(held.detach()).clone()
        layer.mops_prompts[adapter] = nn.Parameter(fresh, requires_grad=held.requires_grad)


def drop_gate(model: Any, adapter: str) -> None:
    """Take the gate of an adapter away, in place: all its prompts count alike."""
    tuner = find_tuner(model)
    config = find_config(tuner, adapter)
    for layer in tuner.layers().values():
        if adapter in layer.mops_gate:
            layer.mops_gate.pop(adapter)
    config.gate_mode, config.top_k = "none", None
    for name, unset in list_unset(OF_GATES).items():
        setattr(config, name, unset)


def join_adapters(model: Any, target: str, source: str) -> None:
    """Put the experts of one adapter behind those of another; the source stays as it is.

    Both gates go on scoring their own experts as before, side by side in one gate; the weights are
    shared out over all.

    Raises:
        ValueError: if the two are not alike in what experts of one adapter share.
    """
    tuner = find_tuner(model)
    mine, theirs = find_config(tuner, target), find_config(tuner, source)
    apart = [name for name in ALIKE if getattr(mine, name) != getattr(theirs, name)]
    if apart:
        raise ValueError(
            f"experts of {source!r} do not fit {target!r}: "
            + ", ".join(f"{n}={getattr(theirs, n)!r}, not {getattr(mine, n)!r}" for n in apart)
        )
    total = mine.num_experts + theirs.num_experts
    hidden = mine.gate_hidden_size + theirs.gate_hidden_size
    for layer in tuner.layers().values():
        if source in layer.mops_prompts:
            more = layer.mops_prompts[source].detach()
            replace_prompts(layer, target, lambda held, more=more: torch.cat([held, more]))
        if source in layer.mops_gate:
            gates: list[Any] = [layer.mops_gate[target], layer.mops_gate[source]]
            layer.mops_gate[target] = join_gates(gates, mine)
    names = [name_experts(mine), name_experts(theirs)]
    if mine.expert_names is not None or theirs.expert_names is not None:
        mine.expert_names = [*names[0], *names[1]]
    if isinstance(mine.init_text, list):
        mine.init_text, mine.prompt_init, mine.tokenizer_name_or_path = None, "vocabulary", None
    mine.num_experts, mine.gate_hidden_size = total, hidden
    mine.gate_taught = mine.gate_taught and theirs.gate_taught


def name_experts(config: MopsConfig) -> list[str]:
    """Name the experts of an adapter."""
    return config.expert_names or [f"expert {e}" for e in range(config.num_experts)]


def join_gates(gates: Sequence[Any], config: MopsConfig) -> MopsGate:
    """Join gates side by side: each scores its own experts by its own hidden units."""
    wide = copy.deepcopy(config)
    wide.num_experts = sum(gate.out.out_features for gate in gates)
    wide.gate_hidden_size = sum(gate.hidden.out_features for gate in gates)
    wide.expert_names = wide.init_text = wide.top_k = None
    first = gates[0].hidden.weight
    joined = MopsGate(first.shape[1], wide).to(first.device)
    with torch.no_grad():
        joined.hidden.weight.copy_(torch.cat([gate.hidden.weight for gate in gates]))
        joined.hidden.bias.copy_(torch.cat([gate.hidden.bias for gate in gates]))
        joined.out.weight.copy_(torch.block_diag(*(gate.out.weight for gate in gates)))
        joined.out.bias.copy_(torch.cat([gate.out.bias for gate in gates]))
    for parameter in joined.parameters():
        parameter.requires_grad_(first.requires_grad)
    return joined


def sum_adapters(model: Any, adapters: Sequence[str], weights: Sequence[float], name: str) -> None:
    """Make an adapter whose parameters are a weighted sum of those of others.

    Raises:
        ValueError: if the adapters are not alike, or the name is taken.
    """
    tuner = find_tuner(model)
    configs = [find_config(tuner, one) for one in adapters]
    if not adapters or len(weights) != len(adapters):
        raise ValueError(f"{len(adapters)} adapters with {len(weights)} weights; give one for each")
    if not all(math.isfinite(weight) for weight in weights):
        raise ValueError(f"weights={[*weights]} are not all finite; give numbers")
    if name in tuner.peft_config:
        raise ValueError(f"adapter {name!r} is there already; choose another name")
    facts = (*ALIKE, "num_experts", "gate_hidden_size")
    apart = [fact for fact in facts if len({str(getattr(one, fact)) for one in configs}) > 1]
    if apart:
        raise ValueError(f"adapters {[*adapters]} differ in {apart}; join_adapters may fit better")
    mixed = tuner.peft_config[name] = copy.deepcopy(configs[0])
    mixed.gate_taught = all(one.gate_taught for one in configs)
    tuner.inject_adapter(tuner.model, name)
    found = [list_tensors(tuner, one) for one in adapters]
    with torch.no_grad():
        for place, whole in enumerate(list_tensors(tuner, name)):
            parts = [w * some[place] for w, some in zip(weights, found, strict=True)]
            whole.copy_(sum(parts[1:], start=parts[0]))


def list_tensors(tuner: MopsModel, adapter: str) -> Sequence[Tensor]:
    """List the parameters of an adapter, in the order of the layers."""
    found: list[Tensor] = []
    for _, layer in sorted(tuner.layers().items()):
        for kind in layer.adapter_layer_names:
            held: Any = getattr(layer, kind)
            if adapter in held:
                one = held[adapter]
                found += [one] if isinstance(one, Tensor) else list(one.parameters())
    return found
