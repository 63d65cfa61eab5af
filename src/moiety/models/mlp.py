"""Multilayer perceptron, of which the linear classifier is the shortest.

Letters: B rows, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from torch import Generator, Tensor

from moiety.core.axes import Axes
from moiety.core.protocols import Kept
from moiety.core.types import Batch, Params
from moiety.models.base import list_widths
from moiety.models.init import draw_uniform


@dataclass(frozen=True)
class MLP:
    """ReLU layers on flattened inputs; runs on any piece of itself. Made by ``mlp``."""

    params: Params
    axes: Axes
    buffers: Mapping[str, str] = field(default_factory=dict)
    draws_noise: bool = False
    uses_batch_statistics: bool = False

    def config(self) -> Mapping[str, Any]:
        """Say how to build this model again."""
        # By number: what comes from a file may come in any order.
        weights = [self.params[f"layer{place}.w"] for place in range(1, len(self.params) // 2 + 1)]
        return {"kind": "mlp", "widths": [weights[0].shape[1], *(len(w) for w in weights)]}

    def redraw(self, rng: Generator, /) -> Params:
        """Draw fresh first values."""
        return mlp(self.config()["widths"], rng).params

    def features(self, params: Params, batch: Batch, /) -> Tensor:
        """Give the last hidden layer, [B, H]; the input itself where there is none."""
        x_BD = batch["x"].flatten(1)
        for place in range(1, len(params) // 2):
            x_BD = F.relu(F.linear(x_BD, params[f"layer{place}.w"], params[f"layer{place}.b"]))
        return x_BD

    def logits(self, params: Params, batch: Batch, kept: Kept, /) -> Tensor:
        del kept
        last = len(params) // 2
        x_BH = self.features(params, batch)
        return F.linear(x_BH, params[f"layer{last}.w"], params[f"layer{last}.b"])

    def forward(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        return self.logits(params, batch, kept), {}


def mlp(widths: Sequence[int], rng: Generator) -> MLP:
    """Make a perceptron.

    Args:
        widths: inputs, hidden units of each layer, classes.
        rng: the stream of its first values.

    >>> import torch
    >>> model = mlp((4, 3, 2), torch.Generator().manual_seed(0))
    >>> model.logits(model.params, {"x": torch.zeros(5, 4)}, {}).shape
    torch.Size([5, 2])
    """
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"{widths=}; give at least inputs and classes, all positive")
    params: dict[str, Tensor] = {}
    axes: dict[str, tuple[str | None, ...]] = {}
    last = len(widths) - 1
    for place, (ins, outs) in enumerate(pairwise(widths), 1):
        params[f"layer{place}.w"] = draw_uniform((outs, ins), ins, rng)
        params[f"layer{place}.b"] = draw_uniform((outs,), ins, rng)
        before = f"h{place - 1}" if place > 1 else None
        after = f"h{place}" if place < last else None
        axes[f"layer{place}.w"] = (after, before)
        axes[f"layer{place}.b"] = (after,)
    return MLP(params, axes)


def linear(inputs: int, classes: int, rng: Generator) -> MLP:
    """Make a linear classifier."""
    return mlp((inputs, classes), rng)


def build_mlp(
    shape: Sequence[int], classes: int, rng: Generator, *, hidden: tuple[int, ...] = (64,)
) -> MLP:
    """Make a perceptron.

    Args:
        shape: of a row.
        classes: number of classes.
        rng: the stream of its first values.
        hidden: units of each hidden layer.
    """
    return mlp(list_widths(shape, hidden, classes), rng)


def build_linear(shape: Sequence[int], classes: int, rng: Generator) -> MLP:
    """Make a linear classifier; it has no axes to assign."""
    return mlp(list_widths(shape, (), classes), rng)


def rebuild_mlp(rng: Generator, widths: Sequence[int]) -> MLP:
    """Make a perceptron as its ``config()`` says."""
    return mlp(widths, rng)
