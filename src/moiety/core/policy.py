"""What a run keeps of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CheckpointPolicy:
    """When to write checkpoints and how many to keep.

    Args:
        every: rounds between checkpoints.
        last: how many of the last are kept; the best by validation accuracy is kept besides.
    """

    every: int = 10
    last: int = 2

    def check(self) -> None:
        """Refuse numbers with which nothing would be kept.

        Raises:
            ValueError: with the values and the remedy.
        """
        if self.every < 1 or self.last < 1:
            raise ValueError(
                f"checkpoint.every={self.every}, checkpoint.last={self.last}; both must be >= 1"
            )
