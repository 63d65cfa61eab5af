"""Sections of 3x3 convolutions and pooling, then hidden layers: every width lies on an axis.

After Simonyan and Zisserman, arXiv:1409.1556, with batch norms, as independent subnet training
uses it (Yuan et al., arXiv:1910.02120). Letters: B rows, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from moiety.core.axes import Along, Axes, AxisEntry
from moiety.core.protocols import Kept
from moiety.core.rows import CALIBRATION_ROWS, Rows, take_all_rows
from moiety.core.types import Batch, Params
from moiety.models.init import draw_uniform
from moiety.models.norms import FoundStatistics, check_statistics, normalise_channels


@dataclass(frozen=True)
class VGG:
    """Convolution, norm, ReLU; pooling after each section; hidden layers likewise. Made by ``vgg``.

    Filters of convolution 1 lie on the axis ``c1``, units of hidden layer 1 on ``h1``, and so on.
    No layer has a bias. Norms are over the batch, that of the output without scale and shift; in
    use they have statistics that ``calibrate`` fixed, or with ``statistics="batch"`` those of
    the batch that is asked about.
    """

    params: Params
    axes: Axes
    shape: tuple[int, int, int]
    blocks: tuple[int, ...]
    statistics: str = "recompute"
    buffers: Mapping[str, str] = field(default_factory=dict)
    draws_noise: bool = False
    uses_batch_statistics: bool = True

    def config(self) -> Mapping[str, Any]:
        """Say how to build this model again."""
        widths = [len(self.params[f"conv{n}.w"]) for n in range(1, sum(self.blocks) + 1)]
        layers = [len(t) for name, t in self.params.items() if name.startswith("fc") and t.ndim > 1]
        ends = list(accumulate(self.blocks, initial=0))
        return {
            "kind": "vgg",
            "shape": list(self.shape),
            "classes": len(self.params["head.w"]),
            "filters": [widths[a:b] for a, b in pairwise(ends)],
            "hidden": layers,
            "statistics": self.statistics,
        }

    def redraw(self, rng: Generator, /) -> Params:
        """Draw fresh first values."""
        made = {name: value for name, value in self.config().items() if name != "kind"}
        return vgg(made.pop("shape"), made.pop("classes"), rng, **made).params

    def run(self, params: Params, x: Tensor, note: FoundStatistics | None = None) -> Tensor:
        """Give the last hidden layer, [B, H]."""
        x, ends = x.reshape(-1, *self.shape), set(accumulate(self.blocks))
        for place in range(1, sum(self.blocks) + 1):
            x = F.conv2d(x, params[f"conv{place}.w"], padding=1)
            x = F.relu(normalise_channels(params, f"conv{place}", x, note))
            x = F.max_pool2d(x, 2) if place in ends else x
        x, layer = x.flatten(1), 1
        while f"fc{layer}.w" in params:
            x = F.linear(x, params[f"fc{layer}.w"])
            x, layer = F.relu(normalise_channels(params, f"fc{layer}", x, note)), layer + 1
        return x

    def answer(self, params: Params, x: Tensor, note: FoundStatistics | None = None) -> Tensor:
        """Give the logits, [B, C]."""
        z_BC = F.linear(self.run(params, x, note), params["head.w"])
        return normalise_channels(params, "head", z_BC, note)

    def features(self, params: Params, batch: Batch, /) -> Tensor:
        """Give the last hidden layer, [B, H]."""
        return self.run(params, batch["x"])

    def logits(self, params: Params, batch: Batch, kept: Kept, /) -> Tensor:
        del kept
        return self.answer(params, batch["x"])

    def forward(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        return self.logits(params, batch, kept), {}

    def calibrate(self, params: Params, rows: Rows | None, held: Mapping[str, float], /) -> Params:
        """Fix the statistics of every norm, layer by layer, on the first rows given.

        Every sum of the whole goes straight into a norm, which takes out that it has more terms
        than a part's; nothing need be scaled. arXiv:1910.02120, section on inference.
        """
        del held
        if rows is None or self.statistics == "batch":
            return params
        note: FoundStatistics = {}
        with torch.no_grad():
            self.answer(params, take_all_rows(rows, CALIBRATION_ROWS)["x"], note)
        return {**params, **note}


def vgg(
    shape: Sequence[int],
    classes: int,
    rng: Generator,
    *,
    filters: Sequence[Sequence[int]] = ((16, 16), (32, 32)),
    hidden: Sequence[int] = (64,),
    statistics: str = "recompute",
) -> VGG:
    """Make a network of convolutions and hidden layers.

    Args:
        shape: of an image, (channels, height, width); a section halves height and width.
        classes: number of classes.
        rng: the stream of its first values.
        filters: of each convolution of each section.
        hidden: units of each hidden layer.
        statistics: in use, ``recompute`` those of norms on training rows, or take the ``batch``'s.

    >>> model = vgg((3, 8, 8), 10, torch.Generator(), filters=((4, 4), (6, 6)), hidden=(5,))
    >>> model.axes["conv3.w"], model.axes["head.w"]
    (('c3', 'c2', None, None), (None, 'h1'))
    """
    depth, height, width = shape
    poolings, widths = len(filters), [width for section in filters for width in section]
    if not all(filters) or min((*widths, *hidden, 1)) < 1:
        raise ValueError(f"{filters=} and {hidden=}; give positive numbers")
    if min(height, width) >> poolings < 1:
        raise ValueError(
            f"images of {height}x{width} are too small for {poolings} poolings; use fewer sections"
        )
    check_statistics(statistics)
    area = (height >> poolings) * (width >> poolings)
    params: dict[str, Tensor] = {}
    axes: dict[str, tuple[AxisEntry, ...]] = {}

    def layer(name: str, axis: str, sizes: Sequence[int], entries: tuple[AxisEntry, ...]) -> None:
        fan_in = torch.Size(sizes[1:]).numel()
        params[f"{name}.w"], axes[f"{name}.w"] = draw_uniform(sizes, fan_in, rng), entries
        params[f"{name}.g"], params[f"{name}.s"] = torch.ones(sizes[0]), torch.zeros(sizes[0])
        axes[f"{name}.g"] = axes[f"{name}.s"] = (axis,)

    for n, (ins, outs) in enumerate(zip([depth, *widths], widths, strict=False), 1):
        before = f"c{n - 1}" if n > 1 else None
        layer(f"conv{n}", f"c{n}", (outs, ins, 3, 3), (f"c{n}", before, None, None))
    last: AxisEntry = Along(f"c{len(widths)}", block=area)
    ins = widths[-1] * area
    for n, outs in enumerate(hidden, 1):
        layer(f"fc{n}", f"h{n}", (outs, ins), (f"h{n}", last))
        last, ins = f"h{n}", outs
    params["head.w"], axes["head.w"] = draw_uniform((classes, ins), ins, rng), (None, last)
    return VGG(params, axes, (depth, height, width), tuple(map(len, filters)), statistics)


def build_vgg(
    shape: Sequence[int],
    classes: int,
    rng: Generator,
    *,
    hidden: tuple[int, ...] = (64,),
    channels: tuple[int, ...] = (16, 32),
    blocks: tuple[int, ...] = (2, 2),
    statistics: str = "recompute",
) -> VGG:
    """Make sections of convolutions behind batch norms, and hidden layers likewise (images).

    Args:
        shape: of an image, (channels, height, width).
        classes: number of classes.
        rng: the stream of its first values.
        hidden: units of each hidden layer.
        channels: of the convolutions of each section.
        blocks: convolutions of each section.
        statistics: of the batch norms in use: ``recompute`` them on training rows, or take those
            of the ``batch`` that is asked about.
    """
    if len(blocks) != len(channels):
        raise ValueError(f"{blocks=} and {channels=}; give one of each for every section")
    filters = [(width,) * count for width, count in zip(channels, blocks, strict=True)]
    return vgg(shape, classes, rng, filters=filters, hidden=hidden, statistics=statistics)


def rebuild_vgg(rng: Generator, shape: Sequence[int], classes: int, **sizes: Any) -> VGG:
    """Make a network of convolutions as its ``config()`` says."""
    return vgg(shape, classes, rng, **sizes)
