"""A small convolutional network: two convolutions with group norm, and a hidden layer.

Letters: B rows, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from moiety.core.axes import Along, Axes
from moiety.core.protocols import Kept
from moiety.core.types import Batch, Params
from moiety.models.init import draw_uniform

PER_GROUP = 8
"""Channels in a group of the norm, at least; a narrower piece is one group."""


def group_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Normalise groups of at least 8 channels, as many groups as divide them evenly."""
    channels = len(weight)
    groups = max(g for g in range(1, max(1, channels // PER_GROUP) + 1) if channels % g == 0)
    return F.group_norm(x, groups, weight, bias)


@dataclass(frozen=True)
class CNN:
    """Convolution 5x5, norm, ReLU, pool; twice; then two layers. Made by ``cnn``.

    The architecture is that of McMahan et al., arXiv:1602.05629, with group norm added: it has
    no running statistics to merge.
    """

    params: Params
    axes: Axes
    shape: tuple[int, int, int]
    buffers: Mapping[str, str] = field(default_factory=dict)
    draws_noise: bool = False
    uses_batch_statistics: bool = False

    def config(self) -> Mapping[str, Any]:
        """Say how to build this model again."""
        channels = [len(self.params["conv1.w"]), len(self.params["conv2.w"])]
        sizes = {"hidden": len(self.params["fc1.w"]), "classes": len(self.params["fc2.w"])}
        return {"kind": "cnn", "shape": list(self.shape), "channels": channels, **sizes}

    def redraw(self, rng: Generator, /) -> Params:
        """Draw fresh first values."""
        made = self.config()
        channels, hidden = made["channels"], made["hidden"]
        return cnn(self.shape, made["classes"], rng, channels=channels, hidden=hidden).params

    def features(self, params: Params, batch: Batch, /) -> Tensor:
        """Give the hidden layer, [B, hidden]."""
        x = batch["x"].reshape(-1, *self.shape)
        for name in ("1", "2"):
            x = F.conv2d(x, params[f"conv{name}.w"], params[f"conv{name}.b"], padding=2)
            x = group_norm(x, params[f"norm{name}.w"], params[f"norm{name}.b"])
            x = F.max_pool2d(F.relu(x), 2)
        return F.relu(F.linear(x.flatten(1), params["fc1.w"], params["fc1.b"]))

    def logits(self, params: Params, batch: Batch, kept: Kept, /) -> Tensor:
        del kept
        return F.linear(self.features(params, batch), params["fc2.w"], params["fc2.b"])

    def forward(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        return self.logits(params, batch, kept), {}


def cnn(
    shape: Sequence[int],
    classes: int,
    rng: Generator,
    *,
    channels: Sequence[int] = (32, 64),
    hidden: int = 512,
) -> CNN:
    """Make a small convolutional network.

    Args:
        shape: of an image, (channels, height, width); height and width at least 4.
        classes: number of classes.
        rng: the stream of its first values.
        channels: of the two convolutions.
        hidden: units of the hidden layer.
    """
    depth, height, width = shape
    if min(height, width) < 4:
        raise ValueError(f"images of {height}x{width} are too small for two poolings; need 4x4")
    one, two = channels
    area = (height // 4) * (width // 4)
    params = {
        "conv1.w": draw_uniform((one, depth, 5, 5), depth * 25, rng),
        "conv1.b": draw_uniform((one,), depth * 25, rng),
        "norm1.w": torch.ones(one),
        "norm1.b": torch.zeros(one),
        "conv2.w": draw_uniform((two, one, 5, 5), one * 25, rng),
        "conv2.b": draw_uniform((two,), one * 25, rng),
        "norm2.w": torch.ones(two),
        "norm2.b": torch.zeros(two),
        "fc1.w": draw_uniform((hidden, two * area), two * area, rng),
        "fc1.b": draw_uniform((hidden,), two * area, rng),
        "fc2.w": draw_uniform((classes, hidden), hidden, rng),
        "fc2.b": draw_uniform((classes,), hidden, rng),
    }
    axes: Axes = {
        "conv1.w": ("c1", None, None, None),
        **dict.fromkeys(("conv1.b", "norm1.w", "norm1.b"), ("c1",)),
        "conv2.w": ("c2", "c1", None, None),
        **dict.fromkeys(("conv2.b", "norm2.w", "norm2.b"), ("c2",)),
        "fc1.w": ("h1", Along("c2", block=area)),
        "fc1.b": ("h1",),
        "fc2.w": (None, "h1"),
        "fc2.b": (None,),
    }
    return CNN(params, axes, (depth, height, width))


def build_cnn(
    shape: Sequence[int],
    classes: int,
    rng: Generator,
    *,
    channels: tuple[int, ...] = (16, 32),
    hidden: int = 64,
) -> CNN:
    """Make a small convolutional network (images).

    Args:
        shape: of an image, (channels, height, width).
        classes: number of classes.
        rng: the stream of its first values.
        channels: of the two convolutions.
        hidden: units of the hidden layer.
    """
    if len(channels) != 2:
        raise ValueError(f"{channels=}; give the channels of two convolutions")
    return cnn(shape, classes, rng, channels=channels, hidden=hidden)


def rebuild_cnn(rng: Generator, shape: Sequence[int], classes: int, **sizes: Any) -> CNN:
    """Make a convolutional network as its ``config()`` says."""
    return cnn(shape, classes, rng, **sizes)
