"""What residual networks are made of: how many blocks, their first values, where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from moiety.core.axes import AxisEntry
from moiety.models.init import draw_uniform

DEPTH, FILTERS = "depth", "filters"
"""The two ways of cutting, and what their axes are called."""


@dataclass(frozen=True)
class ResidualForm:
    """How deep and wide a residual network is.

    Args:
        blocks: of each section, the strided first ones included.
        channels: of each section; the stem has as many as the first.
        final: normalise before the head; the published code of ResIST does not.
    """

    blocks: tuple[int, ...]
    channels: tuple[int, ...]
    final: bool = True

    def __post_init__(self) -> None:
        if len(self.blocks) != len(self.channels) or min((*self.blocks, *self.channels, 1)) < 1:
            raise ValueError(f"{self}; give a positive number of both for every section")

    @property
    def equal(self) -> list[int]:
        """Count the blocks of each section that keep the shape of their input."""
        return [count - (n > 0) for n, count in enumerate(self.blocks)]

    @property
    def longest(self) -> int:
        """Name the section with the most of them, of equals the last."""
        return max(range(1, len(self.blocks) + 1), key=lambda n: (self.equal[n - 1], n))


RESNET101 = ResidualForm((3, 4, 23, 3), (64, 128, 256, 512), final=False)
"""As the published code of ResIST has it: basic blocks, no norm before the head."""


@dataclass(frozen=True)
class ResidualBuilder:
    """Draws the first values of some blocks, and says where they lie.

    Args:
        rng: the stream.
        params: filled as it goes.
        axes: likewise.
    """

    rng: Generator
    params: dict[str, Tensor]
    axes: dict[str, tuple[AxisEntry, ...]]

    def weight(self, name: str, shape: Sequence[int], entries: tuple[AxisEntry, ...] = ()) -> None:
        """Draw a convolution [out, in, k, k], or a stack of some [count, out, in, k, k]."""
        fan_in = shape[-1] * shape[-2] * shape[-3]
        self.params[name] = draw_uniform(shape, fan_in, self.rng)
        self.axes[name] = entries or (None,) * len(shape)

    def norm(
        self, name: str, shape: Sequence[int], entries: tuple[AxisEntry, ...] = (None,)
    ) -> None:
        """Give a norm its scale and shift."""
        self.params[f"{name}.g"], self.params[f"{name}.s"] = torch.ones(*shape), torch.zeros(*shape)
        self.axes[f"{name}.g"] = self.axes[f"{name}.s"] = entries

    def stacked(self, prefix: str, axis: str, sizes: tuple[int, int, int], *, first: bool) -> None:
        """Draw a stack of so many branches, from channels to channels, maybe with first norms."""
        count, ins, outs = sizes
        if first:
            self.norm(f"{prefix}norm1", (count, ins), (axis, None))
        rest = (None,) * 4
        self.weight(f"{prefix}conv1.w", (count, outs, ins, 3, 3), (axis, *rest))
        self.norm(f"{prefix}norm2", (count, outs), (axis, None))
        self.weight(f"{prefix}conv2.w", (count, outs, outs, 3, 3), (axis, *rest))

    def block(self, prefix: str, axis: str | None, sizes: tuple[int, int], *, first: bool) -> None:
        """Draw one branch, from channels to channels, whose inner channels lie on an axis."""
        ins, outs = sizes
        if first:
            self.norm(f"{prefix}norm1", (ins,))
        self.weight(f"{prefix}conv1.w", (outs, ins, 3, 3), (axis, None, None, None))
        self.norm(f"{prefix}norm2", (outs,), (axis,))
        self.weight(f"{prefix}conv2.w", (outs, outs, 3, 3), (None, axis, None, None))


def draw_section(draw: ResidualBuilder, form: ResidualForm, n: int, cut: str) -> None:
    """Draw a section: its strided first block, if it is not the first, and its equal ones."""
    channels, width = form.channels, form.channels[n - 1]
    if n > 1:
        before = channels[n - 2]
        draw.norm(f"s{n}.enter", (before,))
        draw.weight(f"s{n}.enter.w", (width, before, 1, 1))
        if cut == DEPTH:
            draw.stacked(f"s{n}.down.", f"strided{n}", (1, before, width), first=False)
        else:
            draw.block(f"s{n}.down.", None, (before, width), first=False)
    equal = form.equal[n - 1]
    if cut == DEPTH and equal:
        axis = DEPTH if n == form.longest else f"{DEPTH}{n}"
        draw.stacked(f"s{n}.deep.", axis, (equal, width, width), first=True)
    for k in range(equal if cut == FILTERS else 0):
        inner = f"{FILTERS}{n}.{k + 1}" if n > 1 else None
        draw.block(f"s{n}.b{k}.", inner, (width, width), first=True)
