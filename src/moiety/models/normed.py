"""Perceptron with batch norms and no biases: the network that independent subnets were made for.

Yuan et al., *Distributed Learning of Fully Connected Neural Networks using Independent Subnet
Training*, arXiv:1910.02120. Letters: B rows, D features, H hidden units, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from moiety.core.axes import Axes
from moiety.core.protocols import Kept
from moiety.core.rows import CALIBRATION_ROWS, Rows, take_all_rows
from moiety.core.types import Batch, Params
from moiety.models.base import list_widths
from moiety.models.init import draw_uniform
from moiety.models.norms import check_batch_rows

NORMS = ("batch", "none")


@dataclass(frozen=True)
class NormedMLP:
    """Linear layers, each behind a norm over the rows of the batch. Made by ``normed``.

    The output's norm has no scale and no shift. In training the statistics are those of the
    batch; ``calibrate`` fixes them as entries ``norm1.mean``, ``norm1.var``, ..., which
    ``logits`` uses where they are there.
    """

    params: Params
    axes: Axes
    norm: str = "batch"
    buffers: Mapping[str, str] = field(default_factory=dict)
    draws_noise: bool = False
    uses_batch_statistics: bool = True

    def config(self) -> Mapping[str, Any]:
        """Say how to build this model again."""
        weights = [self.params[f"layer{place}.w"] for place in range(1, self.depth + 1)]
        widths = [weights[0].shape[1], *(len(w) for w in weights)]
        return {"kind": "normed", "widths": widths, "norm": self.norm}

    def redraw(self, rng: Generator, /) -> Params:
        """Draw fresh first values."""
        return normed(self.config()["widths"], rng, norm=self.norm).params

    @property
    def depth(self) -> int:
        """Number of layers, the output's included."""
        return sum(name.endswith(".w") for name in self.params)

    def normalise(self, params: Params, place: int, z_BH: Tensor) -> Tensor:
        """Normalise a layer by fixed statistics where there are some, else by the batch's."""
        if self.norm == "none":
            return z_BH
        name = f"norm{place}"
        scale, shift = params.get(f"{name}.g"), params.get(f"{name}.s")
        mean, var = params.get(f"{name}.mean"), params.get(f"{name}.var")
        if mean is None:
            check_batch_rows(z_BH)
        return F.batch_norm(z_BH, mean, var, scale, shift, training=mean is None)

    def features(self, params: Params, batch: Batch, /) -> Tensor:
        """Give the last hidden layer, [B, H]; the input itself where there is none."""
        h_BH = batch["x"].flatten(1)
        for place in range(1, self.depth):
            z_BH = F.linear(h_BH, params[f"layer{place}.w"])
            h_BH = F.relu(self.normalise(params, place, z_BH))
        return h_BH

    def logits(self, params: Params, batch: Batch, kept: Kept, /) -> Tensor:
        del kept
        z_BC = F.linear(self.features(params, batch), params[f"layer{self.depth}.w"])
        return self.normalise(params, self.depth, z_BC)

    def forward(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        return self.logits(params, batch, kept), {}

    def calibrate(self, params: Params, rows: Rows | None, held: Mapping[str, float], /) -> Params:
        """Fix the statistics of every norm, layer by layer, on the first rows given.

        A unit of the whole sums over more units than it did in a part, so no statistics gathered
        in training fit it. ``arXiv:1910.02120``, section on inference.
        """
        del held
        if self.norm == "none" or rows is None:
            return params
        fixed = dict(params)
        with torch.no_grad():
            h_BH = take_all_rows(rows, CALIBRATION_ROWS)["x"].flatten(1)
            for place in range(1, self.depth + 1):
                z_BH = F.linear(h_BH, params[f"layer{place}.w"])
                fixed[f"norm{place}.mean"] = z_BH.mean(0)
                fixed[f"norm{place}.var"] = z_BH.var(0, correction=0)
                h_BH = F.relu(self.normalise(fixed, place, z_BH))
        return fixed


def normed(widths: Sequence[int], rng: Generator, *, norm: str = "batch") -> NormedMLP:
    """Make a perceptron with norms.

    Args:
        widths: inputs, hidden units of each layer, classes.
        rng: the stream of its first values.
        norm: ``batch``, or ``none``.

    >>> model = normed((4, 3, 2), torch.Generator().manual_seed(0))
    >>> sorted(model.params), model.axes["layer2.w"]
    (['layer1.w', 'layer2.w', 'norm1.g', 'norm1.s'], (None, 'h1'))
    """
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"{widths=}; give at least inputs and classes, all positive")
    if norm not in NORMS:
        raise ValueError(f"{norm=}; choose one of {NORMS}")
    params: dict[str, Tensor] = {}
    axes: dict[str, tuple[str | None, ...]] = {}
    last = len(widths) - 1
    for place, (ins, outs) in enumerate(pairwise(widths), 1):
        after = f"h{place}" if place < last else None
        params[f"layer{place}.w"] = draw_uniform((outs, ins), ins, rng)
        axes[f"layer{place}.w"] = (after, f"h{place - 1}" if place > 1 else None)
        if norm == "batch" and after:
            params[f"norm{place}.g"], params[f"norm{place}.s"] = torch.ones(outs), torch.zeros(outs)
            axes[f"norm{place}.g"] = axes[f"norm{place}.s"] = (after,)
    return NormedMLP(params, axes, norm, uses_batch_statistics=norm == "batch")


def build_normed(
    shape: Sequence[int],
    classes: int,
    rng: Generator,
    *,
    hidden: tuple[int, ...] = (64,),
    norm: str = "batch",
) -> NormedMLP:
    """Make a perceptron with batch norms and no biases, made to be assigned by units.

    Args:
        shape: of a row.
        classes: number of classes.
        rng: the stream of its first values.
        hidden: units of each hidden layer.
        norm: ``batch``, or ``none`` to show what goes wrong without.
    """
    return normed(list_widths(shape, hidden, classes), rng, norm=norm)


def rebuild_normed(rng: Generator, widths: Sequence[int], norm: str) -> NormedMLP:
    """Make a perceptron with norms as its ``config()`` says."""
    return normed(widths, rng, norm=norm)
