"""A GPT-style decoder whose heads and hidden units can be assigned.

Radford et al. 2019 (GPT-2): pre-norm, learned positions, the output tied to the embedding of
tokens where asked. Letters: B rows, T positions, D width, V tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from moiety.core.axes import Axes, AxisEntry
from moiety.core.protocols import Kept
from moiety.core.rows import Rows
from moiety.core.types import Batch, Params
from moiety.models.blocks import (
    STD,
    Sizes,
    check_lift,
    describe_blocks,
    draw_blocks,
    draw_normal,
    lay_block_axes,
    layer_norm,
    read_block_sizes,
    run_blocks,
    scale_branches,
)

ENDS = (0, -1)
"""The blocks that stay whole by default: the first and the last."""


@dataclass(frozen=True)
class GPT:
    """Predicts the next token at every position; runs on any piece of itself. Made by ``gpt``.

    Args:
        params: ``tokens`` [V, D], ``places`` [T, D], ``layers.*``, ``norm.*``, and ``head``
            [V, D] where the output is not tied.
        axes: heads and hidden units of the blocks that may be assigned.
        lift: factor on cut branches in training alone: the worse alternative to scaling them for
            use (see ``calibrate``), kept for comparison.
    """

    params: Params
    axes: Axes
    lift: float = 1.0
    buffers: Mapping[str, str] = field(default_factory=dict)
    draws_noise: bool = False
    uses_batch_statistics: bool = False

    def config(self) -> Mapping[str, Any]:
        """Say how to build this model again."""
        return {
            "kind": "gpt",
            "vocabulary": len(self.params["tokens"]),
            "context": len(self.params["places"]),
            **describe_blocks(self.params, self.axes),
            "tied": "head" not in self.params,
            "lift": self.lift,
        }

    def redraw(self, rng: Generator, /) -> Params:
        """Draw fresh first values."""
        context, tied = len(self.params["places"]), "head" not in self.params
        return draw_gpt(Sizes.of(self.params), len(self.params["tokens"]), context, rng, tied=tied)

    def encode(self, params: Params, x_BT: Tensor, kept: Kept, lift: float) -> Tensor:
        """Give the normed stream behind the last block, [B, T, D]."""
        most = len(params["places"])
        if x_BT.shape[1] > most:
            raise ValueError(
                f"a text of {x_BT.shape[1]} tokens, but the model knows {most} positions; cut it"
            )
        x_BTD = F.embedding(x_BT, params["tokens"]) + params["places"][: x_BT.shape[1]]
        return layer_norm(params, "norm", run_blocks(params, x_BTD, kept, causal=True, lift=lift))

    def features(self, params: Params, batch: Batch, /) -> Tensor:
        """Average the last stream over positions, [B, D]."""
        return self.encode(params, batch["x"], {}, 1.0).mean(1)

    def logits(self, params: Params, batch: Batch, kept: Kept, /) -> Tensor:
        """Score the next token at every position, [B, T, V]."""
        x_BTD = self.encode(params, batch["x"], kept, 1.0)
        return F.linear(x_BTD, params.get("head", params["tokens"]))

    def forward(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        x_BTD = self.encode(params, batch["x"], kept, self.lift)
        return F.linear(x_BTD, params.get("head", params["tokens"])), {}

    def calibrate(self, params: Params, rows: Rows | None, held: Mapping[str, float], /) -> Params:
        """Scale the branches of assigned blocks by the share that a part held in training."""
        del rows
        return scale_branches(params, held)


def draw_gpt(
    sizes: Sizes, vocabulary: int, context: int, rng: Generator, *, tied: bool
) -> dict[str, Tensor]:
    """Draw first values."""
    params = {
        "tokens": draw_normal((vocabulary, sizes.width), STD, rng),
        "places": draw_normal((context, sizes.width), STD, rng),
        **draw_blocks(sizes, rng),
        "norm.w": torch.ones(sizes.width),
        "norm.b": torch.zeros(sizes.width),
    }
    return params if tied else {**params, "head": draw_normal((vocabulary, sizes.width), STD, rng)}


def lay_assigned_axes(depth: int, shared: Sequence[int]) -> dict[str, tuple[AxisEntry, ...]]:
    """Give the axes of all blocks but the shared ones; negative numbers count from the end.

    Raises:
        ValueError: if there is no such block.
    """
    if any(not -depth <= place < depth for place in shared):
        raise ValueError(f"shared_blocks={tuple(shared)}, but there are {depth} blocks")
    whole = {place % depth for place in shared}
    layers = [lay_block_axes(layer) for layer in range(depth) if layer not in whole]
    return {name: entries for axes in layers for name, entries in axes.items()}


def gpt(
    vocabulary: int,
    context: int,
    sizes: Sizes,
    rng: Generator,
    *,
    shared_blocks: Sequence[int] = ENDS,
    tied: bool = True,
) -> GPT:
    """Make a decoder.

    Args:
        vocabulary: number of tokens.
        context: positions it knows.
        sizes: widths of its blocks.
        rng: the stream of its first values.
        shared_blocks: blocks that lie on no axis, so that every worker has them whole.
        tied: score tokens by their embedding.

    >>> model = gpt(5, 8, Sizes.even(4, 2, 6, 3), torch.Generator().manual_seed(0))
    >>> model.logits(model.params, {"x": torch.zeros(1, 8, dtype=torch.long)}, {}).shape
    torch.Size([1, 8, 5])
    >>> model.axes["layers.1.wq"]
    ('layers.1.head', None, None)
    """
    axes = lay_assigned_axes(len(sizes.heads), shared_blocks)
    return GPT(draw_gpt(sizes, vocabulary, context, rng, tied=tied), axes)


def build_gpt(
    shape: Sequence[int],
    classes: int,
    rng: Generator,
    *,
    hidden: int = 64,
    width: int = 64,
    depth: int = 4,
    heads: int = 8,
    shared_blocks: tuple[int, ...] = (0, -1),
    lift: float = 1.0,
) -> GPT:
    """Make a transformer that decodes texts (texts).

    Args:
        shape: of a window, (characters,).
        classes: number of classes, which are characters.
        rng: the stream of its first values.
        hidden: hidden units of every block.
        width: of the residual stream.
        depth: blocks.
        heads: of each block.
        shared_blocks: blocks that are never assigned; negative numbers count from the last.
        lift: factor on assigned branches in training, instead of scaling them for use (an
            ablation).
    """
    check_lift(lift)
    sizes = Sizes.even(width, heads, hidden, depth)
    made = gpt(classes, shape[0], sizes, rng, shared_blocks=shared_blocks)
    return replace(made, lift=lift)


def rebuild_gpt(
    rng: Generator, *, vocabulary: int, context: int, shared_blocks: Sequence[int], tied: bool,
    lift: float, **widths: Any,
) -> GPT:  # fmt: skip
    """Make a decoder as its ``config()`` says."""
    sizes, shared = read_block_sizes(**widths), tuple(shared_blocks)
    made = gpt(vocabulary, context, sizes, rng, shared_blocks=shared, tied=tied)
    return replace(made, lift=lift)
