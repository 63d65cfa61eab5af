"""Workers of unequal means get the first indices of every axis: a small part inside a larger."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from moiety.core.axes import Part
from moiety.core.state import Share, State, Turn


@dataclass(frozen=True)
class Nested:
    """Give each worker the leading share of the axes.

    Diao et al., *HeteroFL*, arXiv:2010.01264; Horvath et al., *FjORD*, arXiv:2102.13451.

    Args:
        sizes: axis -> length.
        width: worker -> share of every axis it can hold, in (0, 1].
    """

    sizes: Mapping[str, int]
    width: Callable[[int], float]

    def __call__(self, state: State, turn: Turn, /) -> Mapping[int, Share]:
        del state
        return {worker: Share(self.part(worker)) for worker in turn.roster}

    def part(self, worker: int) -> Part:
        """Cut for one worker; at least one index of every axis."""
        width = self.width(worker)
        if not 0 < width <= 1:
            raise ValueError(f"worker {worker} has width {width}; choose a share in (0, 1]")
        return Part(
            {axis: torch.arange(max(1, round(size * width))) for axis, size in self.sizes.items()}
        )
