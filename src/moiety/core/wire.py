"""What stands between the server and its workers: pieces pass as they are, or as codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from moiety.core.state import Job, Reply


class Wire(Protocol):
    """The server's end of the way to the workers; the worker's end is in its solver.

    ``pack``, ``open`` and ``read`` draw from streams with an address, so that each may be called
    again, anywhere, and gives the same.
    """

    def pack(self, job: Job, /) -> Job:
        """Add to a job the code of its piece, which is what goes out; its piece stays exact."""
        ...

    def open(self, job: Job, /) -> Job:
        """Give a job as its worker sees it: with the piece that the code tells."""
        ...

    def read(self, job: Job, reply: Reply, /) -> Reply:
        """Give the piece that a reply tells.

        Raises:
            ValueError: for a code that is none, with the reason.
        """
        ...


@dataclass(frozen=True)
class PlainWire:
    """Pieces pass as they are."""

    def pack(self, job: Job, /) -> Job:
        return job

    def open(self, job: Job, /) -> Job:
        return job

    def read(self, job: Job, reply: Reply, /) -> Reply:
        del job
        if reply.code:
            raise ValueError(f"it is coded ({sorted(reply.code)}), but no code was agreed on")
        return reply


PLAIN_WIRE = PlainWire()
