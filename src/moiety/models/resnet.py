"""Pre-activation residual network of basic blocks, which can be cut along depth or filters.

The network of ResIST (Dun, Wolfe, Jermaine and Kyrillidis, arXiv:2107.00961), in the form for
small images: a stem, sections of blocks, a strided first block in every section but the first.
Letters: B rows, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from moiety.core.axes import Axes, Part, read_axis_lengths, take_piece
from moiety.core.protocols import Kept
from moiety.core.rows import CALIBRATION_ROWS, Rows, take_all_rows
from moiety.core.types import Batch, Params
from moiety.models.init import draw_uniform
from moiety.models.norms import FoundStatistics, check_statistics, normalise_channels
from moiety.models.residual import (
    DEPTH,
    FILTERS,
    RESNET101,
    ResidualBuilder,
    ResidualForm,
    draw_section,
)

CUTS = (DEPTH, FILTERS)


def take_prefixed(params: Params, prefix: str) -> Params:
    """Take the parameters of one place, by their names there."""
    return {n.removeprefix(prefix): t for n, t in params.items() if n.startswith(prefix)}


def unstack_blocks(params: Params) -> list[Params]:
    """Take a stack of blocks apart; none where none is there."""
    apart = {name: tensor.unbind(0) for name, tensor in params.items()}
    count = len(next(iter(apart.values()), ()))
    return [{name: each[place] for name, each in apart.items()} for place in range(count)]


def stack_statistics(notes: Sequence[FoundStatistics], prefix: str) -> FoundStatistics:
    """Stack what blocks of one stack noted."""
    names = notes[0] if notes else {}
    return {prefix + name: torch.stack([note[name] for note in notes]) for name in names}


def run_branch(block: Params, x: Tensor, note: FoundStatistics | None, stride: int = 1) -> Tensor:
    """Run the branch of a block behind its first norm."""
    h = F.conv2d(x, block["conv1.w"], stride=stride, padding=1)
    h = F.relu(normalise_channels(block, "norm2", h, note))
    return F.conv2d(h, block["conv2.w"], padding=1)


def run_residual(block: Params, x: Tensor, note: FoundStatistics | None) -> Tensor:
    """Run a block that keeps the shape of its input."""
    return x + run_branch(block, F.relu(normalise_channels(block, "norm1", x, note)), note)


@dataclass(frozen=True)
class ResNet:
    """A residual network; runs on any piece of itself. Made by ``resnet``.

    Cut along depth, the equal blocks of a section are stacked, and one that a part lacks is
    simply not there: its input passes. The longest section's axis is ``depth``, that of another
    section ``depth2``; strided branches lie alone on ``strided2``, ... Cut along filters, every
    equal block but those of section 1 has an axis ``filters3.1``, ... for its inner channels.

    Norms are over the batch. In use they have statistics that ``calibrate`` fixed, or with
    ``statistics="batch"`` those of the batch that is asked about.
    """

    params: Params
    axes: Axes
    shape: tuple[int, int, int]
    blocks: tuple[int, ...]
    cut: str = DEPTH
    statistics: str = "recompute"
    buffers: Mapping[str, str] = field(default_factory=dict)
    draws_noise: bool = False
    uses_batch_statistics: bool = True

    def config(self) -> Mapping[str, Any]:
        """Say how to build this model again."""
        last = range(1, len(self.blocks) + 1)
        width = [len(self.params["stem.w"])]
        width += [len(self.params[f"s{n}.enter.w"]) for n in last[1:]]
        return {
            "kind": "resnet",
            "shape": list(self.shape),
            "classes": len(self.params["head.w"]),
            "blocks": list(self.blocks),
            "channels": width,
            "cut": self.cut,
            "final": "norm.g" in self.params,
            "statistics": self.statistics,
            "sizes": dict(read_axis_lengths(self.params, self.axes)),
        }

    def redraw(self, rng: Generator, /) -> Params:
        """Draw fresh first values."""
        return rebuild_resnet(rng, **self.config()).params

    def run(self, params: Params, x: Tensor, note: FoundStatistics | None = None) -> Tensor:
        """Give the mean over positions of the last section's output, [B, C]."""
        x = F.conv2d(x.reshape(-1, *self.shape), params["stem.w"], padding=1)
        for n, count in enumerate(self.blocks, 1):
            if n > 1:
                x = self.enter(params, n, x, note)
            for k in range(count - (n > 1) if self.cut == FILTERS else 0):
                x = self.one(params, f"s{n}.b{k}.", x, note)
            if self.cut == DEPTH:
                x = self.many(params, f"s{n}.deep.", x, note)
        if "norm.g" in params:
            x = F.relu(normalise_channels(params, "norm", x, note))
        return x.mean((2, 3))

    def enter(self, params: Params, n: int, x: Tensor, note: FoundStatistics | None) -> Tensor:
        """Enter a section: halve height and width by a strided block."""
        x = F.relu(normalise_channels(params, f"s{n}.enter", x, note))
        way = F.conv2d(x, params[f"s{n}.enter.w"], stride=2)
        prefix = f"s{n}.down."
        down = take_prefixed(params, prefix)
        own: list[FoundStatistics] = []
        for block in unstack_blocks(down) if self.cut == DEPTH else [down]:
            own.append({})
            way = way + run_branch(block, x, None if note is None else own[-1], stride=2)
        if note is not None:
            flat = {prefix + name: t for one in own for name, t in one.items()}
            note.update(stack_statistics(own, prefix) if self.cut == DEPTH else flat)
        return way

    def one(self, params: Params, prefix: str, x: Tensor, note: FoundStatistics | None) -> Tensor:
        """Run a block that stands alone."""
        own: FoundStatistics | None = None if note is None else {}
        x = run_residual(take_prefixed(params, prefix), x, own)
        if note is not None:
            note.update({prefix + name: t for name, t in (own or {}).items()})
        return x

    def many(self, params: Params, prefix: str, x: Tensor, note: FoundStatistics | None) -> Tensor:
        """Run the blocks of a stack that are there, in order."""
        own: list[FoundStatistics] = []
        for block in unstack_blocks(take_prefixed(params, prefix)):
            own.append({})
            x = run_residual(block, x, None if note is None else own[-1])
        if note is not None:
            note.update(stack_statistics(own, prefix))
        return x

    def features(self, params: Params, batch: Batch, /) -> Tensor:
        """Give what the head reads, [B, C]."""
        return self.run(params, batch["x"])

    def logits(self, params: Params, batch: Batch, kept: Kept, /) -> Tensor:
        del kept
        return F.linear(self.features(params, batch), params["head.w"], params["head.b"])

    def forward(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        return self.logits(params, batch, kept), {}

    def scaled(self, params: Params, held: Mapping[str, float]) -> dict[str, Tensor]:
        """Multiply every branch by the share of it that a part held in training.

        A part's sums have that share of the terms of the whole's: blocks along the way, or
        filters within a branch (arXiv:2107.00961, section 3).
        """
        made = dict(params)
        for name, entries in self.axes.items():
            for entry in entries if name.endswith("conv2.w") else ():
                if isinstance(entry, str) and entry in held:
                    made[name] = made[name] * held[entry]
        return made

    def calibrate(self, params: Params, rows: Rows | None, held: Mapping[str, float], /) -> Params:
        """Scale branches, then fix the statistics of all norms on the first rows given."""
        made = self.scaled(params, held)
        if rows is None or self.statistics == "batch":
            return made
        note: FoundStatistics = {}
        with torch.no_grad():
            self.run(made, take_all_rows(rows, CALIBRATION_ROWS)["x"], note)
        return {**made, **note}


def resnet(
    shape: Sequence[int],
    classes: int,
    rng: Generator,
    form: ResidualForm = RESNET101,
    *,
    cut: str = DEPTH,
    statistics: str = "recompute",
) -> ResNet:
    """Make a residual network; ResNet101 of basic blocks by default.

    Args:
        shape: of an image, (channels, height, width).
        classes: number of classes.
        rng: the stream of its first values.
        form: how many blocks of how many channels.
        cut: along ``depth`` (whole blocks) or ``filters`` (inner channels of blocks).
        statistics: in use, ``recompute`` those of norms on training rows, or take the ``batch``'s.

    >>> tiny = resnet((3, 8, 8), 10, torch.Generator(), ResidualForm((1, 4), (2, 4)))
    >>> read_axis_lengths(tiny.params, tiny.axes)
    {'depth1': 1, 'strided2': 1, 'depth': 3}
    """
    if cut not in CUTS:
        raise ValueError(f"{cut=}; choose one of {CUTS}")
    check_statistics(statistics)
    depth, height, width = shape
    last = form.channels[-1]
    draw = ResidualBuilder(rng, {}, {})
    draw.weight("stem.w", (form.channels[0], depth, 3, 3))
    for n in range(1, len(form.blocks) + 1):
        draw_section(draw, form, n, cut)
    if form.final:
        draw.norm("norm", (last,))
    draw.params["head.w"] = draw_uniform((classes, last), last, rng)
    draw.params["head.b"] = draw_uniform((classes,), last, rng)
    return ResNet(draw.params, draw.axes, (depth, height, width), form.blocks, cut, statistics)


def narrow_resnet(model: ResNet, sizes: Mapping[str, int]) -> ResNet:
    """Make a network of fewer blocks or filters: the first so many of each axis."""
    part = Part({axis: torch.arange(size) for axis, size in sizes.items()})
    return replace(model, params=take_piece(model.params, model.axes, part))


def rebuild_resnet(rng: Generator, **config: Any) -> ResNet:
    """Make a network as its ``config()`` says."""
    form = ResidualForm(tuple(config["blocks"]), tuple(config["channels"]), config["final"])
    chosen = {name: config[name] for name in ("cut", "statistics")}
    made = resnet(config["shape"], config["classes"], rng, form, **chosen)
    return narrow_resnet(made, config["sizes"])


def build_resnet(
    shape: Sequence[int],
    classes: int,
    rng: Generator,
    *,
    channels: tuple[int, ...] = (16, 32),
    blocks: tuple[int, ...] = (2, 2),
    cut: str = DEPTH,
    statistics: str = "recompute",
) -> ResNet:
    """Make a residual network, to be cut along depth or filters (images).

    Args:
        shape: of an image, (channels, height, width).
        classes: number of classes.
        rng: the stream of its first values.
        channels: of each section.
        blocks: residual blocks of each section.
        cut: along ``depth`` (whole blocks) or ``filters`` (within blocks).
        statistics: of the batch norms in use: ``recompute`` them on training rows, or take those
            of the ``batch`` that is asked about.
    """
    form = ResidualForm(blocks, channels)
    return resnet(shape, classes, rng, form, cut=cut, statistics=statistics)
