"""Waiting for events: no test counts on a machine to be quick."""

import time
from collections.abc import Callable

LAST_S = 600.0
"""The last limit of every wait: for what will never happen, not for a machine that is busy."""


def wait_until(happened: Callable[[], object], what: str = "the event") -> None:
    """Look until something has happened; ``happened`` raises where it never can."""
    end = time.monotonic() + LAST_S
    while not happened():
        if time.monotonic() > end:
            raise AssertionError(f"waited {LAST_S:.0f} s for {what}")
        time.sleep(0.002)


def keep_busy(seconds: float) -> None:
    """Compute in Python for some seconds, as a worker does that takes long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
