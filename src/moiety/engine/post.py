"""What moves letters to nodes and back: a network, or in tests this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Returned:
    """What came back for a letter: bytes, or the reason why there are none."""

    data: bytes = b""
    fault: str = ""


class Post(Protocol):
    """Moves letters to nodes, which are known by name; nothing here waits."""

    def find_nodes(self) -> Mapping[str, int]:
        """Name the nodes that are here now, each with its address."""
        ...

    def send(self, node: int, letter: bytes, limit_s: float, /) -> str:
        """Send a letter that is of no use after some seconds; give the number of its answer.

        The number is empty where the letter could not be sent.
        """
        ...

    def collect(self, numbers: Sequence[str], /) -> Mapping[str, Returned]:
        """Give what has come back of some numbers."""
        ...
