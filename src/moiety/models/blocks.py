"""Transformer blocks on any piece of themselves: pre-norm attention and a perceptron.

Heads and hidden units of each layer lie on axes of their own, so that they can be assigned; the
width of the residual stream is never cut. Weights are stored as TwIST-like training needs them: a
head's slice of every projection is one block.

Letters: B rows, T positions, D width, H heads, K width of a head, F hidden units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from moiety.core.axes import Axes, AxisEntry
from moiety.core.protocols import Kept
from moiety.core.types import Params
from moiety.ops.attention import attend

STD = 0.02
"""Standard deviation of first weights, as in GPT-2."""


@dataclass(frozen=True)
class Sizes:
    """Widths of a stack of blocks; layers of a sub-network may differ.

    Args:
        width: of the residual stream.
        heads: of each layer.
        hidden: units of the perceptron of each layer.
        head: width of a head.
    """

    width: int
    heads: tuple[int, ...]
    hidden: tuple[int, ...]
    head: int

    def __post_init__(self) -> None:
        if len(self.heads) != len(self.hidden) or not self.heads:
            raise ValueError(f"{self}: give heads and hidden units of every layer, of one at least")
        if min(self.width, self.head, *self.heads, *self.hidden) < 1:
            raise ValueError(f"{self}: every width must be at least 1")

    @staticmethod
    def even(width: int, heads: int, hidden: int, depth: int) -> Sizes:
        """Give all layers the same heads and hidden units."""
        if depth < 1 or heads < 1 or width % heads:
            raise ValueError(
                f"{width=} must be a multiple of {heads=}, and {depth=} at least 1; change one"
            )
        return Sizes(width, (heads,) * depth, (hidden,) * depth, width // heads)

    @staticmethod
    def of(params: Params) -> Sizes:
        """Read the widths off the parameters."""
        layers = range(count_blocks(params))
        shapes = [params[f"layers.{i}.wq"].shape for i in layers]
        hidden = tuple(len(params[f"layers.{i}.w1"]) for i in layers)
        return Sizes(shapes[0][2], tuple(s[0] for s in shapes), hidden, shapes[0][1])


def check_lift(lift: float) -> None:
    """Refuse a factor on branches with which nothing can be trained."""
    if not 0 < lift < math.inf:
        raise ValueError(f"{lift=}; choose a finite factor above 0 (1: none)")


def describe_blocks(params: Params, axes: Axes) -> dict[str, Any]:
    """Say how to build a stack of blocks again: widths, and which blocks are never assigned."""
    sizes = Sizes.of(params)
    assigned = {entry for entries in axes.values() for entry in entries}
    shared = [place for place in range(len(sizes.heads)) if name_head_axis(place) not in assigned]
    return {
        "width": sizes.width,
        "heads": list(sizes.heads),
        "hidden": list(sizes.hidden),
        "head": sizes.head,
        "shared_blocks": shared,
    }


def read_block_sizes(width: int, heads: Sequence[int], hidden: Sequence[int], head: int) -> Sizes:
    """Read the widths of blocks off a ``config()``."""
    return Sizes(width, tuple(heads), tuple(hidden), head)


def count_blocks(params: Params) -> int:
    """Count the blocks."""
    return sum(name.endswith(".wq") for name in params)


def name_head_axis(layer: int) -> str:
    """Name the axis of a layer's heads."""
    return f"layers.{layer}.head"


def name_hidden_axis(layer: int) -> str:
    """Name the axis of a layer's hidden units."""
    return f"layers.{layer}.hidden"


def draw_normal(shape: Sequence[int], std: float, rng: Generator) -> Tensor:
    """Draw from a normal distribution around zero."""
    return torch.randn(*shape, generator=rng) * std


def draw_blocks(sizes: Sizes, rng: Generator) -> dict[str, Tensor]:
    """Draw first values: what writes to the residual stream is smaller the deeper the net."""
    params: dict[str, Tensor] = {}
    width, dim = sizes.width, sizes.head
    small = STD / (2 * len(sizes.heads)) ** 0.5
    for layer, (heads, hidden) in enumerate(zip(sizes.heads, sizes.hidden, strict=True)):
        at = f"layers.{layer}"
        for norm in ("norm1", "norm2"):
            params[f"{at}.{norm}.w"] = torch.ones(width)
            params[f"{at}.{norm}.b"] = torch.zeros(width)
        for name in ("q", "k", "v"):
            params[f"{at}.w{name}"] = draw_normal((heads, dim, width), STD, rng)
            params[f"{at}.b{name}"] = torch.zeros(heads, dim)
        params[f"{at}.wo"] = draw_normal((heads, dim, width), small, rng)
        params[f"{at}.bo"] = torch.zeros(width)
        params[f"{at}.w1"] = draw_normal((hidden, width), STD, rng)
        params[f"{at}.b1"] = torch.zeros(hidden)
        params[f"{at}.w2"] = draw_normal((hidden, width), small, rng)
        params[f"{at}.b2"] = torch.zeros(width)
    return params


def lay_block_axes(layer: int) -> dict[str, tuple[AxisEntry, ...]]:
    """Lay heads and hidden units of a layer on its axes; norms and output biases lie on none."""
    at, head, hidden = f"layers.{layer}", name_head_axis(layer), name_hidden_axis(layer)
    weights = dict.fromkeys((f"{at}.w{name}" for name in "qkvo"), (head, None, None))
    biases = dict.fromkeys((f"{at}.b{name}" for name in "qkv"), (head, None))
    units = {f"{at}.w1": (hidden, None), f"{at}.b1": (hidden,), f"{at}.w2": (hidden, None)}
    return {**weights, **biases, **units}


def layer_norm(params: Params, name: str, x_BTD: Tensor) -> Tensor:
    """Normalise every position."""
    weight = params[f"{name}.w"]
    return F.layer_norm(x_BTD, weight.shape, weight, params[f"{name}.b"])


def run_attention(params: Params, at: str, x_BTD: Tensor, *, causal: bool) -> Tensor:
    """Let positions look at each other through every head at hand; no output bias, [B, T, D]."""
    q, k, v = (
        torch.einsum("btd,hkd->bhtk", x_BTD, params[f"{at}.w{name}"])
        + params[f"{at}.b{name}"][:, None]
        for name in ("q", "k", "v")
    )
    seen_BHTK = attend(q, k, v, causal=causal)
    return torch.einsum("bhtk,hkd->btd", seen_BHTK, params[f"{at}.wo"])


def run_perceptron(params: Params, at: str, x_BTD: Tensor) -> Tensor:
    """Apply the hidden units at hand to every position; no output bias, [B, T, D]."""
    h_BTF = F.gelu(F.linear(x_BTD, params[f"{at}.w1"], params[f"{at}.b1"]), approximate="tanh")
    return h_BTF @ params[f"{at}.w2"]


def run_blocks(
    params: Params, x_BTD: Tensor, kept: Kept, *, causal: bool, lift: float = 1.0
) -> Tensor:
    """Run all blocks.

    Args:
        params: any piece.
        x_BTD: embeddings.
        kept: axes that were cut.
        causal: whether a position sees only itself and those before it.
        lift: factor on the branches of axes that were cut (an ablation, in training).
    """
    for layer in range(count_blocks(params)):
        at = f"layers.{layer}"
        branch = run_attention(params, at, layer_norm(params, f"{at}.norm1", x_BTD), causal=causal)
        branch = branch * lift if lift != 1 and name_head_axis(layer) in kept else branch
        x_BTD = x_BTD + branch + params[f"{at}.bo"]
        branch = run_perceptron(params, at, layer_norm(params, f"{at}.norm2", x_BTD))
        branch = branch * lift if lift != 1 and name_hidden_axis(layer) in kept else branch
        x_BTD = x_BTD + branch + params[f"{at}.b2"]
    return x_BTD


def scale_branches(params: Params, held: Mapping[str, float]) -> Params:
    """Multiply the branches of assigned layers by the share a part held, before their biases.

    A branch is a sum over heads or units, and in training it had only that share of the terms.
    """
    scaled = dict(params)
    for layer in range(count_blocks(params)):
        for axis, name in ((name_head_axis(layer), "wo"), (name_hidden_axis(layer), "w2")):
            if held.get(axis, 1.0) != 1.0:
                scaled[f"layers.{layer}.{name}"] = params[f"layers.{layer}.{name}"] * held[axis]
    return scaled
