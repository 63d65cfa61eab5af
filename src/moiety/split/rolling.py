"""Workers of unequal means get a window of every axis, which moves on by one index a round.

Alam et al., *FedRolex: Model-Heterogeneous Federated Learning with Rolling Sub-Model Extraction*,
arXiv:2212.01548.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from moiety.core.axes import Part
from moiety.core.state import Share, State, Turn


@dataclass(frozen=True)
class Rolling:
    """Give each worker neighbouring indices of every axis, from the number of the round on.

    Args:
        sizes: axis -> length.
        width: worker -> share of every axis it can hold, in (0, 1].
    """

    sizes: Mapping[str, int]
    width: Callable[[int], float]

    def __call__(self, state: State, turn: Turn, /) -> Mapping[int, Share]:
        del state
        return {
            worker: Share(
                Part(
                    {
                        axis: take_window(size, self.width(worker), turn.round)
                        for axis, size in self.sizes.items()
                    }
                )
            )
            for worker in turn.cohort
        }


def take_window(size: int, share: float, first: int) -> Tensor:
    """Take neighbours on a ring, one at least; sorted.

    >>> take_window(4, 0.5, 7).tolist()
    [0, 3]
    """
    return ((torch.arange(max(1, round(size * share))) + first) % size).sort().values
