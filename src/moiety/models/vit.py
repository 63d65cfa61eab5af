"""A ViT-style classifier: patches and a class token through transformer blocks.

Dosovitskiy et al., arXiv:2010.11929. Letters: B rows, P patches, D width, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from moiety.core.axes import Axes
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
    layer_norm,
    read_block_sizes,
    run_blocks,
    scale_branches,
)
from moiety.models.transformer import ENDS, lay_assigned_axes

PATCH = 4
"""Pixels of a patch's side."""


@dataclass(frozen=True)
class ViT:
    """Classifies images by the stream of a class token; runs on any piece. Made by ``vit``.

    Args:
        params: ``patch.*`` (a linear map of a patch), ``class`` [D], ``places`` [P + 1, D],
            ``layers.*``, ``norm.*``, ``head.*``.
        axes: heads and hidden units of the blocks that may be assigned.
        shape: of an image, (channels, height, width).
        lift: as in ``GPT``.
    """

    params: Params
    axes: Axes
    shape: tuple[int, int, int]
    lift: float = 1.0
    buffers: Mapping[str, str] = field(default_factory=dict)
    draws_noise: bool = False
    uses_batch_statistics: bool = False

    def config(self) -> Mapping[str, Any]:
        """Say how to build this model again."""
        return {
            "kind": "vit",
            "shape": list(self.shape),
            "classes": len(self.params["head.w"]),
            **describe_blocks(self.params, self.axes),
            "lift": self.lift,
        }

    def redraw(self, rng: Generator, /) -> Params:
        """Draw fresh first values."""
        return draw_vit(self.shape, len(self.params["head.w"]), Sizes.of(self.params), rng)

    def encode(self, params: Params, x: Tensor, kept: Kept, lift: float) -> Tensor:
        """Give the normed stream of the class token, [B, D]."""
        x_BPD = F.linear(
            cut_patches(x.reshape(-1, *self.shape)), params["patch.w"], params["patch.b"]
        )
        first_B1D = params["class"].expand(len(x_BPD), 1, -1)
        x_BPD = torch.cat([first_B1D, x_BPD], 1) + params["places"]
        x_BPD = run_blocks(params, x_BPD, kept, causal=False, lift=lift)
        return layer_norm(params, "norm", x_BPD[:, 0])

    def features(self, params: Params, batch: Batch, /) -> Tensor:
        """Give the stream of the class token, [B, D]."""
        return self.encode(params, batch["x"], {}, 1.0)

    def logits(self, params: Params, batch: Batch, kept: Kept, /) -> Tensor:
        x_BD = self.encode(params, batch["x"], kept, 1.0)
        return F.linear(x_BD, params["head.w"], params["head.b"])

    def forward(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        x_BD = self.encode(params, batch["x"], kept, self.lift)
        return F.linear(x_BD, params["head.w"], params["head.b"]), {}

    def calibrate(self, params: Params, rows: Rows | None, held: Mapping[str, float], /) -> Params:
        """Scale the branches of assigned blocks by the share that a part held in training."""
        del rows
        return scale_branches(params, held)


def cut_patches(x_BCHW: Tensor) -> Tensor:
    """Cut images into flat patches, row by row, [B, P, C * PATCH * PATCH].

    >>> cut_patches(torch.arange(32.0).view(1, 1, 4, 8))[0, 1, :5].tolist()
    [4.0, 5.0, 6.0, 7.0, 12.0]
    """
    rows, depth, height, width = x_BCHW.shape
    grid = x_BCHW.reshape(rows, depth, height // PATCH, PATCH, width // PATCH, PATCH)
    return grid.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def draw_vit(shape: Sequence[int], classes: int, sizes: Sizes, rng: Generator) -> dict[str, Tensor]:
    """Draw first values."""
    depth, height, width = shape
    count = (height // PATCH) * (width // PATCH)
    return {
        "patch.w": draw_normal((sizes.width, depth * PATCH**2), (depth * PATCH**2) ** -0.5, rng),
        "patch.b": torch.zeros(sizes.width),
        "class": draw_normal((sizes.width,), STD, rng),
        "places": draw_normal((count + 1, sizes.width), STD, rng),
        **draw_blocks(sizes, rng),
        "norm.w": torch.ones(sizes.width),
        "norm.b": torch.zeros(sizes.width),
        "head.w": draw_normal((classes, sizes.width), STD, rng),
        "head.b": torch.zeros(classes),
    }


def vit(
    shape: Sequence[int],
    classes: int,
    sizes: Sizes,
    rng: Generator,
    *,
    shared_blocks: Sequence[int] = ENDS,
) -> ViT:
    """Make a classifier of images.

    Args:
        shape: of an image, (channels, height, width); height and width multiples of 4.
        classes: number of classes.
        sizes: widths of its blocks.
        rng: the stream of its first values.
        shared_blocks: blocks that lie on no axis, so that every worker has them whole.
    """
    depth, height, width = shape
    if height % PATCH or width % PATCH:
        raise ValueError(
            f"images of {height}x{width} do not divide into patches of {PATCH}x{PATCH}"
        )
    axes = lay_assigned_axes(len(sizes.heads), shared_blocks)
    return ViT(draw_vit(shape, classes, sizes, rng), axes, (depth, height, width))


def build_vit(
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
) -> ViT:
    """Make a transformer of image patches (images).

    Args:
        shape: of an image, (channels, height, width).
        classes: number of classes.
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
    made = vit(shape, classes, sizes, rng, shared_blocks=shared_blocks)
    return replace(made, lift=lift)


def rebuild_vit(
    rng: Generator, *, shape: Sequence[int], classes: int, shared_blocks: Sequence[int],
    lift: float, **widths: Any,
) -> ViT:  # fmt: skip
    """Make a transformer of patches as its ``config()`` says."""
    made = vit(shape, classes, read_block_sizes(**widths), rng, shared_blocks=tuple(shared_blocks))
    return replace(made, lift=lift)
