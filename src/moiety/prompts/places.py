"""Where an adapter sits in a model: numbers that a configuration leaves open, checked and found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from moiety.prompts.config import MopsConfig
from moiety.prompts.families import Family

FAR = 0.5
"""Distance of means of embeddings, as a share of the largest, that no rounding makes."""


def place_adapter(
    config: MopsConfig, model_config: Mapping[str, Any], family: Family, depth: int
) -> MopsConfig:
    """Fill in the gate's layer, the layers of prompts and the shape of the model, in place.

    Raises:
        ValueError: if a layer is out of range, or the adapter was made for another model.
    """
    shape = [model_config["model_type"], depth, read_width(model_config)]
    if config.base_shape is not None and list(config.base_shape) != shape:
        raise ValueError(
            f"the adapter was made for a model {config.base_shape} (type, blocks, width), but this "
            f"one is {shape}; load the model that it was made for"
        )
    gate = config.gate_layer
    if gate is None:
        gate = max(1, round(depth * 10 / 32))
    if not 1 <= gate < depth:
        raise ValueError(
            f"gate_layer={gate}, but the model has {depth} blocks; choose from 1 to {depth - 1}"
        )
    layers = config.injection_layers
    if layers is None:
        layers = list(range(gate, depth))
    wrong = [layer for layer in layers if not gate <= layer < depth]
    if wrong or not layers or sorted(set(layers)) != list(layers):
        raise ValueError(
            f"injection_layers={list(layers)}; give blocks in rising order, from the gate's layer "
            f"{gate} to {depth - 1}"
        )
    if config.injection == "token" and list(layers) != list(range(gate, depth)):
        raise ValueError(
            f"injection_layers={list(layers)}, but injection='token' goes to every block "
            "behind the gate; leave them out, or use injection='deep'"
        )
    config.base_shape, config.gate_layer, config.injection_layers = shape, gate, list(layers)
    placed = [family.name_attention(layer) for layer in layers]
    if config.target_modules is not None and {*config.target_modules} != {*placed}:
        raise ValueError(
            f"target_modules={config.target_modules!r}, but prompts go to the attention of "
            "injection_layers; say those, and leave target_modules out"
        )
    config.target_modules = placed
    return config


def check_base(config: MopsConfig, embedding_VD: Tensor) -> MopsConfig:
    """Note means of a model's embeddings in a configuration, or compare them, in place.

    Rounding, further training and more tokens move them little; those of another model are others.

    Raises:
        ValueError: if the adapter was made for a model with others.
    """
    if embedding_VD.is_meta or not embedding_VD.numel():  # held elsewhere
        return config
    found = embedding_VD[:1000, :16].detach().float().mean(0).tolist()
    if config.base_means is None:
        config.base_means = found
    if len(config.base_means) != len(found):
        raise ValueError(f"base_means has {len(config.base_means)} numbers, but embeddings of this "
                         f"model give {len(found)}; load a sound copy")  # fmt: skip
    most = max(map(abs, config.base_means))
    apart = max(abs(a - b) for a, b in zip(found, config.base_means, strict=True))
    if apart > FAR * most:
        raise ValueError(
            f"the adapter was made for another model of this shape: means of embeddings are up to "
            f"{most:.2g} there, and up to {apart:.2g} away here; load the model that it was made "
            "for, or make a new MopsConfig"
        )
    return config


def read_width(model_config: Mapping[str, Any]) -> int:
    """Read the width of hidden states; GPT-2 calls it otherwise."""
    return model_config["hidden_size" if "hidden_size" in model_config else "n_embd"]


def read_positions(model_config: Mapping[str, Any]) -> int:
    """Read how many positions a model has; GPT-2 calls them otherwise."""
    name = "max_position_embeddings" if "max_position_embeddings" in model_config else "n_positions"
    return model_config[name]
