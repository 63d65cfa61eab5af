"""Models as plain data, so that a saved one can be built again without running saved code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Generator

from moiety.core.types import Params
from moiety.models.base import FeatureModel
from moiety.models.blocks import Sizes
from moiety.models.cnn import cnn
from moiety.models.gated import Common, GatedExperts, gated_experts
from moiety.models.graph import graphnet
from moiety.models.llama import rebuild_llama
from moiety.models.mixture import mixture
from moiety.models.mlp import mlp
from moiety.models.normed import normed
from moiety.models.resnet import rebuild_resnet
from moiety.models.transformer import gpt
from moiety.models.vgg import vgg
from moiety.models.vit import vit
from moiety.serve.choose import Plain, Routed


def rebuild_gpt(
    rng: Generator, *, vocabulary: int, context: int, shared_blocks: Sequence[int], tied: bool,
    lift: float, **widths: Any,
) -> FeatureModel:  # fmt: skip
    """Build a decoder again."""
    sizes, shared = read_block_sizes(**widths), tuple(shared_blocks)
    made = gpt(vocabulary, context, sizes, rng, shared_blocks=shared, tied=tied)
    return replace(made, lift=lift)


def rebuild_vit(
    rng: Generator, *, shape: Sequence[int], classes: int, shared_blocks: Sequence[int],
    lift: float, **widths: Any,
) -> FeatureModel:  # fmt: skip
    """Build a transformer of patches again."""
    made = vit(shape, classes, read_block_sizes(**widths), rng, shared_blocks=tuple(shared_blocks))
    return replace(made, lift=lift)


def read_block_sizes(width: int, heads: Sequence[int], hidden: Sequence[int], head: int) -> Sizes:
    """Read the widths of blocks."""
    return Sizes(width, tuple(heads), tuple(hidden), head)


REBUILD: Mapping[str, Callable[..., FeatureModel]] = {
    "mlp": lambda rng, widths: mlp(widths, rng),
    "normed": lambda rng, widths, norm: normed(widths, rng, norm=norm),
    "cnn": lambda rng, shape, classes, **sizes: cnn(shape, classes, rng, **sizes),
    "vgg": lambda rng, shape, classes, **sizes: vgg(shape, classes, rng, **sizes),
    "resnet": lambda rng, **config: rebuild_resnet(rng, config),
    "gcn": lambda rng, widths, dropout: graphnet("gcn", widths, rng, dropout=dropout),
    "sage": lambda rng, widths, dropout: graphnet("sage", widths, rng, dropout=dropout),
    "gpt": rebuild_gpt,
    "vit": rebuild_vit,
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
