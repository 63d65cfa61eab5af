"""A small transformer that classifies a text: its words look at each other, and are averaged.

Blocks as in ``gpt``, without the mask of what comes later (Vaswani et al., arXiv:1706.03762,
section 3.1). Letters: B rows, T positions, D width, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from moiety.core.axes import Axes
from moiety.core.protocols import Kept
from moiety.core.rows import Rows
from moiety.core.types import Batch, Params
from moiety.models.bag import average_words
from moiety.models.blocks import (
    STD,
    Sizes,
    describe_blocks,
    draw_blocks,
    draw_normal,
    layer_norm,
    read_block_sizes,
    run_blocks,
    scale_branches,
)
from moiety.models.transformer import ENDS, lay_assigned_axes


@dataclass(frozen=True)
class TextEncoder:
    """Classifies texts by the mean stream of their words; runs on any piece of itself.

    A text is read up to as many words as there are places. Where it has fewer, the others are a
    word of their own to those that look at them, but do not count in the mean.

    Args:
        params: ``words`` [V, D], ``places`` [T, D], ``layers.*``, ``norm.*``, ``head.*``.
        axes: heads and hidden units of the blocks that may be assigned.
    """

    params: Params
    axes: Axes
    buffers: Mapping[str, str] = field(default_factory=dict)
    draws_noise: bool = False
    uses_batch_statistics: bool = False

    def config(self) -> Mapping[str, Any]:
        """Say how to build this model again."""
        return {
            "kind": "encoder",
            "words": len(self.params["words"]),
            "length": len(self.params["places"]),
            "classes": len(self.params["head.w"]),
            **describe_blocks(self.params, self.axes),
        }

    def redraw(self, rng: Generator, /) -> Params:
        """Draw fresh first values."""
        words, length = len(self.params["words"]), len(self.params["places"])
        return draw_encoder((length, words), len(self.params["head.w"]), Sizes.of(self.params), rng)

    def encode(self, params: Params, batch: Batch, kept: Kept) -> Tensor:
        """Average the normed streams of the words that are there, [B, D]."""
        x_BT = batch["x"][:, : len(params["places"])]
        x_BTD = F.embedding(x_BT, params["words"]) + params["places"][: x_BT.shape[1]]
        x_BTD = layer_norm(params, "norm", run_blocks(params, x_BTD, kept, causal=False))
        return average_words(x_BTD, x_BT)

    def features(self, params: Params, batch: Batch, /) -> Tensor:
        """Give the mean stream of a text's words, [B, D]."""
        return self.encode(params, batch, {})

    def logits(self, params: Params, batch: Batch, kept: Kept, /) -> Tensor:
        return F.linear(self.encode(params, batch, kept), params["head.w"], params["head.b"])

    def forward(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        return self.logits(params, batch, kept), {}

    def calibrate(self, params: Params, rows: Rows | None, held: Mapping[str, float], /) -> Params:
        """Scale the branches of assigned blocks by the share that a part held in training."""
        del rows
        return scale_branches(params, held)


def draw_encoder(
    shape: Sequence[int], classes: int, sizes: Sizes, rng: Generator
) -> dict[str, Tensor]:
    """Draw first values; the shape is places and words."""
    length, words = shape
    return {
        "words": draw_normal((words, sizes.width), STD, rng),
        "places": draw_normal((length, sizes.width), STD, rng),
        **draw_blocks(sizes, rng),
        "norm.w": torch.ones(sizes.width),
        "norm.b": torch.zeros(sizes.width),
        "head.w": draw_normal((classes, sizes.width), STD, rng),
        "head.b": torch.zeros(classes),
    }


def build_encoder(
    shape: Sequence[int],
    classes: int,
    rng: Generator,
    *,
    length: int = 64,
    hidden: int = 64,
    width: int = 32,
    depth: int = 2,
    heads: int = 4,
    shared_blocks: tuple[int, ...] = ENDS,
) -> TextEncoder:
    """Make a small transformer that classifies a text by its first words.

    Args:
        shape: positions of a row, and numbers of words.
        classes: number of classes.
        rng: the stream of its first values.
        length: words that are read of a text.
        hidden: hidden units of every block.
        width: of the residual stream.
        depth: blocks.
        heads: of each block.
        shared_blocks: blocks that are never assigned; negative numbers count from the last.
    """
    if length < 1:
        raise ValueError(f"encoder.{length=}; a text is read by one word at least")
    sizes = Sizes.even(width, heads, hidden, depth)
    params = draw_encoder((min(length, shape[0]), shape[1]), classes, sizes, rng)
    return TextEncoder(params, lay_assigned_axes(depth, shared_blocks))


def rebuild_encoder(
    rng: Generator, *, words: int, length: int, classes: int, shared_blocks: Sequence[int],
    **widths: Any,
) -> TextEncoder:  # fmt: skip
    """Make a transformer of words as its ``config()`` says."""
    sizes = read_block_sizes(**widths)
    params = draw_encoder((length, words), classes, sizes, rng)
    return TextEncoder(params, lay_assigned_axes(len(sizes.heads), tuple(shared_blocks)))
