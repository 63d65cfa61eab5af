"""What really passed between processes, and the seconds that took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Transfers:
    """Readings of one process since it began; they grow, and enter no state and no result.

    Args:
        sent_bytes: of tensors that left for other processes (and, of a pool, came from them).
        send_s: seconds spent on that.
        wait_s: seconds in which there was nothing to do until others were done.
    """

    sent_bytes: int = 0
    send_s: float = 0.0
    wait_s: float = 0.0

    @contextmanager
    def sending(self, size: int = 0) -> Iterator[None]:
        """Count what happens within as sending so many bytes."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.sent_bytes += size
            self.send_s += time.perf_counter() - begun

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count what happens within as waiting for others."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.wait_s += time.perf_counter() - begun

    def read(self) -> Transfers:
        """Give the readings of now."""
        return Transfers(self.sent_bytes, self.send_s, self.wait_s)
