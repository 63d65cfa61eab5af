"""Models as plain data, so that a saved one can be built again without running saved code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from moiety.core.errors import RunError
from moiety.core.objective import Objective
from moiety.core.protocols import Serve
from moiety.core.types import Params
from moiety.models.base import FeatureModel, TakesConstants, find_constants
from moiety.models.components import Components, components
from moiety.models.gate_input import HIDDEN, ROWS
from moiety.models.gated import COMMON, CONSTANT, PREFIX, Common, GatedExperts, gated_experts
from moiety.models.llama import rebuild_llama
from moiety.models.low_rank import low_rank
from moiety.models.mixture import mixture
from moiety.models.networks import NETWORKS
from moiety.models.personal import share_and_own
from moiety.serve.choose import Plain, Routed
from moiety.serve.mixed import Mixed, Surest
from moiety.serve.prior import Corrected, EstimatedPrior
from moiety.serve.prompts import GatedPrompts, ServePrompts

REBUILD: Mapping[str, Callable[..., FeatureModel]] = {
    **{name: entry.rebuild for name, entry in NETWORKS.items()},
    "llama": rebuild_llama,
    "mixture": lambda _, **sizes: mixture(**sizes),
}
"""Kind -> what builds it, from a stream and the rest of its ``config()``."""


def rebuild_model(config: Mapping[str, Any], module: FeatureModel | None = None) -> FeatureModel:
    """Build a model from its ``config()``; values are set by whoever loads.

    Args:
        config: as a model gave it.
        module: the user's own model, where the saved one was made of a module.

    Raises:
        ValueError: if the kind is unknown, or a module is needed.
    """
    kind = config.get("kind", "")
    if kind in REBUILD:
        rest = {name: value for name, value in config.items() if name != "kind"}
        return REBUILD[kind](torch.Generator().manual_seed(0), **rest)
    if kind == "shared-and-own":
        one = rebuild_model(config["model"], module)
        return share_and_own(one, one.params, config.get("own_share", 1.0))
    if kind == "low-rank":
        told = {name: config[name] for name in ("rank", "scale", "targets")}
        inner = rebuild_model(config["model"], module)
        return low_rank(inner, inner.params, torch.Generator().manual_seed(0), **told)
    if kind == "components":
        return rebuild_components(config, module)
    if kind == "module":
        if module is None:
            raise ValueError(
                f"this model was made of your module {config.get('class')!r}; give it again: "
                "load_model(folder, module)"
            )
        return module
    raise ValueError(
        f"unknown model kind {kind!r}; this version knows {', '.join(REBUILD)}, gated, module"
    )


def check_module(
    config: Mapping[str, Any], tensors: Params, module: FeatureModel | None = None
) -> None:
    """Refuse a module whose parameters are not those that were saved.

    Args:
        config: of the model.
        tensors: that were saved.
        module: the user's own; where the model was made of none, it is not read.

    Raises:
        RunError: naming some parameters that differ.
    """
    mixed = config["kind"] == "gated"
    if module is None or (config["expert"] if mixed else config)["kind"] != "module":
        return
    saved = select_prefix(tensors, PREFIX) if mixed else tensors
    found = {name: list(t.shape[1:] if mixed else t.shape) for name, t in saved.items()}
    differing = [
        f"{name} is {list(t.shape)}, saved was {found.get(name, 'nothing')}"
        for name, t in module.params.items()
        if found.get(name) != list(t.shape)
    ]
    if differing:
        raise RunError(
            f"the module given is another than that of the run: {'; '.join(differing[:3])}"
            f"{f' and {len(differing) - 3} more' if differing[3:] else ''}; give a module like the "
            "one that was trained"
        )


def rebuild_gated(
    config: Mapping[str, Any], constants: Params, module: FeatureModel | None = None
) -> GatedExperts:
    """Build a mixture from its ``config()`` and what is frozen of it."""
    named = select_prefix(constants, COMMON)
    mean, std = named.pop("mean"), named.pop("std")
    net, reads = rebuild_model(config["common"], module), config.get("gate_input", HIDDEN)
    net = net if reads == ROWS else restore_constants(net, named)  # nothing of it was saved then
    params = {name: t for name, t in named.items() if name not in find_constants(net)}
    common = Common(net, params, mean, std, reads)
    shared = {**named, **select_prefix(constants, CONSTANT)}
    expert = restore_constants(rebuild_model(config["expert"], module), shared)
    rng = torch.Generator().manual_seed(0)
    starts = [expert.params] * config["experts"]
    made = gated_experts(expert, common, starts, rng, hidden=config["hidden"])
    return replace(made, closed=tuple(config.get("closed", ())))


def rebuild_components(config: Mapping[str, Any], module: FeatureModel | None) -> Components:
    """Build models beside each other from their ``config()``; values are set by whoever loads."""
    one = rebuild_model(config["model"], module)
    return components(one, [one.params] * config["count"], config.get("labels", 0))


BY_COMPONENTS: Mapping[str, Callable[[Components, Objective], Serve]] = {
    "mixed": Mixed,
    "surest": Surest,
}
"""Ways to serve models beside each other."""


def select_prefix(tensors: Params, prefix: str) -> dict[str, Tensor]:
    """Select the tensors whose names begin with a prefix, without it."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def restore_constants(model: FeatureModel, saved: Params) -> FeatureModel:
    """Give a model the frozen tensors that were saved with it; a model without any is as it was.

    Raises:
        ValueError: if one is missing, or of another shape.
    """
    if not isinstance(model, TakesConstants) or not model.constants:
        return model
    for name, now in model.constants.items():
        if name not in saved or saved[name].shape != now.shape:
            found = list(saved[name].shape) if name in saved else "nothing"
            raise ValueError(
                f"the frozen {name!r} is {list(now.shape)}, but the saved model has {found}; give "
                "the module that was trained, with the same parameters frozen"
            )
    return model.replace_constants({name: saved[name] for name in model.constants})


def rebuild_serve(
    config: Mapping[str, Any], model: FeatureModel | GatedExperts, objective: Objective
) -> Serve:
    """Build how a model is served."""
    if config["kind"] in ("corrected", "estimated"):
        inner = rebuild_serve(config["inner"], model, objective)
        if config["kind"] == "corrected":
            return Corrected(inner, config["temperature"], tuple(config["log_ratio"]))
        source, spread = tuple(config["source"]), config.get("spread", 1.0)
        least, uniform, heat = config["least_rows"], config["uniform"], config["temperature"]
        return EstimatedPrior(inner, least, uniform, heat, source, spread)
    if config["kind"] in BY_COMPONENTS and isinstance(model, Components):
        return BY_COMPONENTS[config["kind"]](model, objective)
    if config["kind"] == "routed" and isinstance(model, GatedExperts):
        k, mode, shared = config["k"], config["mode"], config.get("shared", 0)
        return Routed(model, k, mode, objective, shared, config.get("cover", 1.0))
    if config["kind"] == "prompts" and isinstance(model, GatedPrompts):
        return ServePrompts(model, config["k"], objective)
    return Plain(model, objective)
