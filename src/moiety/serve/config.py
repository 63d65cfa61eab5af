"""Models as plain data, so that a saved one can be built again without running saved code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from moiety.core.types import Params
from moiety.models.base import FeatureModel
from moiety.models.gated import Common, GatedExperts, gated_experts
from moiety.models.llama import rebuild_llama
from moiety.models.mixture import mixture
from moiety.models.networks import NETWORKS
from moiety.serve.choose import Plain, Routed

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
    if kind == "module":
        if module is None:
            raise ValueError(
                f"this model was made of your module {config.get('class')!r}; give it again: "
                "load(path, module=from_module(...))"
            )
        return module
    raise ValueError(
        f"unknown model kind {kind!r}; this version knows {', '.join(REBUILD)}, gated, module"
    )


def rebuild_gated(
    config: Mapping[str, Any], constants: Params, module: FeatureModel | None = None
) -> GatedExperts:
    """Build a mixture from its ``config()`` and the tensors of its common expert."""
    named = {name.removeprefix("common."): t for name, t in constants.items()}
    mean, std = named.pop("mean"), named.pop("std")
    common = Common(rebuild_model(config["common"], module), named, mean, std)
    expert = rebuild_model(config["expert"], module)
    rng = torch.Generator().manual_seed(0)
    starts = [expert.params] * config["experts"]
    return gated_experts(expert, common, starts, rng, hidden=config["hidden"])


def rebuild_serve(config: Mapping[str, Any], model: FeatureModel | GatedExperts) -> Plain | Routed:
    """Build how a model is served."""
    if config["kind"] == "routed" and isinstance(model, GatedExperts):
        return Routed(model, config["k"], config["mode"])
    return Plain(model)
