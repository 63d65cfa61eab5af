"""What a model must know so that its tensors may lie in blocks, of which nobody need hold all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from moiety.core.rows import Rows
from moiety.core.streams import stream
from moiety.core.types import Batch, Params
from moiety.models.init import draw_uniform

UNITS = 64
"""Units whose first values come from one stream."""


class Holders(Protocol):
    """Those who hold the blocks, all of whom compute at once."""

    def join_columns(self, mine: Tensor, /) -> Tensor:
        """Set the columns [B, b] of all side by side, [B, N]."""
        ...

    def add_up(self, tensor: Tensor, /) -> Tensor:
        """Add up a tensor over all."""
        ...


class BlockForm(Protocol):
    """How a model lies in blocks: along which dims, what they start with, how the whole answers."""

    @property
    def model(self) -> Any: ...

    def dim(self, name: str, /) -> int | None:
        """Name the dim along which a tensor lies in blocks; None where everybody has it whole."""
        ...

    def first(self, name: str, units: range, seed: int, /) -> Tensor:
        """Draw the first values of some consecutive units of a tensor, whoever holds them.

        They lie along its ``dim``; of a tensor that everybody has whole, along its last.
        """
        ...

    def fix(self, shard: Params, rows: Rows | None, holders: Holders, /) -> Params:
        """Give what ``calibrate`` adds for use, of the units at hand; nothing for many models."""
        ...

    def logits(self, shard: Params, batch: Batch, fixed: Params, holders: Holders, /) -> Tensor:
        """Score the classes with what ``fix`` gave, [B, C], the same at every holder."""
        ...


def draw_units(
    shape: Sequence[int], dim: int, units: range, fan_in: int, where: Sequence[Any]
) -> Tensor:
    """Draw some units of a uniform tensor so that they do not depend on who holds which.

    Args:
        shape: of the whole.
        dim: along which units lie.
        units: which, consecutive; every ``UNITS`` of them come from a stream of their own.
        fan_in: bounds the values.
        where: the address of the streams.
    """
    shape = list(shape)
    mine = torch.empty([len(units) if d == dim else size for d, size in enumerate(shape)])
    for begin in range(units.start // UNITS * UNITS, units.stop, UNITS):
        end = min(begin + UNITS, shape[dim])
        some = [end - begin if d == dim else size for d, size in enumerate(shape)]
        values = draw_uniform(some, fan_in, stream(*where, begin // UNITS))
        low, high = max(begin, units.start), min(end, units.stop)
        cut = values.narrow(dim, low - begin, high - low)
        mine.narrow(dim, low - units.start, high - low).copy_(cut)
    return mine
