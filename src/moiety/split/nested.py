"""Workers of unequal means get the first indices of every axis: a small part inside a larger."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from moiety.core.axes import Part
from moiety.core.state import Share, State, Turn


@dataclass(frozen=True)
class Widths:
    """Give workers some widths in turns: worker w has ``widths[w % len(widths)]``."""

    widths: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.widths or any(not 0 < width <= 1 for width in self.widths):
            raise ValueError(f"widths={self.widths}; choose at least one share in (0, 1]")

    def __call__(self, worker: int, /) -> float:
        return self.widths[worker % len(self.widths)]

    @property
    def mean(self) -> float:
        """The mean width."""
        return sum(self.widths) / len(self.widths)


@dataclass(frozen=True)
class Nested:
    """Give each worker the leading share of the axes.

    Diao et al., *HeteroFL*, arXiv:2010.01264; Horvath et al., *FjORD*, arXiv:2102.13451.

    Args:
        sizes: axis -> length.
        width: worker -> share of every axis it can hold, in (0, 1].
        drawn: widths of which each job draws one, no wider than its worker's; none for no draw.
    """

    sizes: Mapping[str, int]
    width: Callable[[int], float]
    drawn: tuple[float, ...] = ()

    def __call__(self, state: State, turn: Turn, /) -> Mapping[int, Share]:
        del state
        shares = {}
        for worker in turn.cohort:
            width = self.width(worker)
            some = [one for one in self.drawn if one <= width] or [width]
            pick = int(torch.randint(len(some), (), generator=turn.rng)) if self.drawn else 0
            shares[worker] = Share(self.part(worker, some[pick] if self.drawn else width))
        return shares

    def part(self, worker: int, width: float) -> Part:
        """Cut for one worker; at least one index of every axis."""
        if not 0 < width <= 1:
            raise ValueError(f"worker {worker} has width {width}; choose a share in (0, 1]")
        return Part(
            {axis: torch.arange(max(1, round(size * width))) for axis, size in self.sizes.items()}
        )
