"""What the blocks below the gate make of a text: it never changes, so it may be kept.

Letters: B rows, T positions, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from moiety.prompts.families import Family


@dataclass
class Below:
    """Goes down in place of a request: takes what a block is given, [B, T, D].

    Args:
        layer: the block.
        hidden: what was taken.
    """

    layer: int
    hidden: Tensor | None = None


@contextmanager
def start_at_block(model: Any, family: Family, layer: int | None) -> Iterator[None]:
    """Let a model begin at a block, which is given its ``inputs_embeds``; None changes nothing.

    Raises:
        ValueError: if the model adds something to its input, or its blocks attend unlike another.
    """
    if layer is None:
        yield
        return
    if not family.rotates:
        raise ValueError(
            f"{type(model).__name__} adds positions to what it is given, so it cannot begin behind "
            "its first blocks; give input_ids in place of below"
        )
    if len(set(getattr(model.config, "layer_types", None) or ())) > 1:
        raise ValueError(
            f"blocks of {type(model).__name__} attend in several ways "
            f"({sorted(set(model.config.layer_types))}), which are told by their number from the "
            "first; give input_ids in place of below"
        )
    path, _, name = family.blocks.rpartition(".")
    holder = model.get_submodule(path)
    blocks: Any = getattr(holder, name)
    setattr(holder, name, nn.ModuleList(blocks[layer:]))
    try:
        yield
    finally:
        setattr(holder, name, blocks)


def replace_input(args: tuple[Any, ...], kwargs: dict[str, Any], below: Tensor) -> dict[str, Any]:
    """Give hidden states in place of tokens.

    Raises:
        ValueError: if tokens are given as well, or a cache is asked for.
    """
    tokens = [name for name in ("input_ids", "inputs_embeds") if kwargs.get(name) is not None]
    if args or tokens or kwargs.get("use_cache"):
        raise ValueError("below= stands for the tokens, and makes no cache; leave input_ids, "
                         "inputs_embeds and use_cache out")  # fmt: skip
    return {**kwargs, "input_ids": None, "inputs_embeds": below, "use_cache": False}
