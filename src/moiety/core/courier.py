"""Jobs that take the time that they take: an engine that sends, and waits for none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from moiety.core.solver import Solve
from moiety.core.state import Job


@dataclass(frozen=True)
class Landed:
    """What came of jobs under way: workers whose replies are there; who is lost, and why."""

    back: AbstractSet[int]
    lost: Mapping[int, str]


@runtime_checkable
class Courier(Protocol):
    """An engine whose jobs take the time that they take, so that nobody need wait for all.

    ``map`` of a job whose reply is there gives that reply.
    """

    def find_absent(self) -> AbstractSet[int]:
        """Name the workers that nothing can be sent to now."""
        ...

    def send_out(self, solve: Solve, jobs: Sequence[Job], oldest: int, /) -> Landed:
        """Send jobs that are not under way; those of rounds before ``oldest`` are done with."""
        ...

    def wait_for_any(self, limit_s: float, /) -> Landed:
        """Wait until something comes, or is lost, or so many seconds have passed."""
        ...
