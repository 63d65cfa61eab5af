"""When checkpoints are written, and their folder: one folder each in it, named by its round."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from moiety.core.errors import RunError
from moiety.core.files import remove_folder


@dataclass(frozen=True)
class CheckpointPolicy:
    """When to write checkpoints and how many to keep.

    Args:
        every: rounds between checkpoints.
        last: how many of the last are kept; the best by validation rows is kept besides.
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


def list_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints of a run, oldest first."""
    found = folder.glob("[0-9]*")
    return sorted(path for path in found if path.name.isdecimal() and path.is_dir())


def find_checkpoint(folder: Path, paths: Sequence[Path], at: int | None) -> Path | None:
    """Find the newest checkpoint, or that of a round; None where a run begins.

    Args:
        folder: of them.
        paths: all there are, as rank 0 sees them.
        at: the round; None for the newest.

    Raises:
        RunError: if there is none of that round.
    """
    if at is None:
        return paths[-1] if paths else None
    for path in paths:
        if int(path.name) == at:
            return path
    have = [int(path.name) for path in paths]
    raise RunError(f"{folder.parent} has no checkpoint of round {at}; it has {have}")


def drop_later_checkpoints(folder: Path, after: int) -> None:
    """Drop the checkpoints of later rounds, whose ledger is given up, and what kills left."""
    for path in list_checkpoints(folder):
        if int(path.name) > after:
            remove_folder(path)
    for path in folder.glob(".*"):
        shutil.rmtree(path, ignore_errors=True)


def prune_checkpoints(folder: Path, last: int, read_score: Callable[[Path], float | None]) -> None:
    """Keep the last few checkpoints and the one with the best score (the earliest of equals)."""
    paths = list_checkpoints(folder)
    scores = {path: score for path in paths if (score := read_score(path)) is not None}
    best = max(scores, key=lambda path: scores[path], default=None)
    for path in paths[:-last]:
        if path != best:
            remove_folder(path)
