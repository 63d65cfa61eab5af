"""Factors on the learning rate by progress through a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol


class RateSchedule(Protocol):
    """Factor on the learning rates at ``progress``, counted in rounds."""

    def __call__(self, progress: float, /) -> float: ...


def constant_rate(progress: float, /) -> float:
    """Leave the learning rates as they are."""
    del progress
    return 1.0


@dataclass(frozen=True)
class CosineRate:
    """Fall from 1 to ``floor`` along half a cosine over ``rounds``, after a linear warm-up."""

    rounds: int
    warmup: float = 0.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < math.inf or not 0 <= self.floor <= 1:
            raise ValueError(
                f"warmup={self.warmup}, floor={self.floor}; choose a finite number of rounds of at "
                "least 0, and a share of the learning rate from 0 to 1"
            )

    def __call__(self, progress: float, /) -> float:
        if progress < self.warmup:
            return progress / self.warmup
        gone = min(1.0, (progress - self.warmup) / max(self.rounds - self.warmup, 1e-9))
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * gone))


@dataclass(frozen=True)
class SteppedRate:
    """Multiply by ``factor`` when each of the ``at`` rounds is reached.

    >>> SteppedRate(at=(10, 20), factor=0.1)(15)
    0.1
    """

    at: tuple[float, ...]
    factor: float = 0.1

    def __call__(self, progress: float, /) -> float:
        return self.factor ** sum(progress >= mark for mark in self.at)


@dataclass(frozen=True)
class LaterRate:
    """Start another schedule at a later round, where a second stage begins."""

    lr_schedule: RateSchedule
    start: float

    def __call__(self, progress: float, /) -> float:
        return self.lr_schedule(max(0.0, progress - self.start))
