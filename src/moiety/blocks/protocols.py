"""What a split must say of itself to be played in blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from torch import Generator

from moiety.core.protocols import Split
from moiety.core.state import Share


@runtime_checkable
class AssignsAxes(Split, Protocol):
    """A split of axes by the turn alone, without the state, so that every party comes to the same.

    What a worker gets is less than the whole, which need therefore be nowhere.
    """

    @property
    def sizes(self) -> Mapping[str, int]:
        """Axis that is assigned -> its length."""
        ...

    def shares(
        self, cohort: Sequence[int], rng: Generator, concurrency: int = 0
    ) -> Mapping[int, Share]:
        """Assign to the workers of a round."""
        ...
