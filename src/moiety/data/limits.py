"""How much a file may unpack to: what it says of its size is read before memory is asked for."""

from __future__ import annotations

import os
from pathlib import Path

from moiety.core.memory import check_memory

VARIABLE = "MOIETY_UNPACK_BYTES"
"""The environment variable that allows more, in bytes."""

ALWAYS = 256 << 20
"""Bytes that any file may unpack to."""

FEWER = "give fewer rows or columns, or use a larger machine"

RATIO = 100
"""Times its own size that a file may unpack to; what compresses better is rarely data."""


def check_unpacked_size(path: Path, size: int, packed: int | None = None) -> None:
    """Refuse a file that would unpack to far more than it seems, or to more than memory holds.

    Args:
        path: the file, for the message.
        size: bytes that it says it unpacks to.
        packed: bytes that it has on disk; by default those of ``path``.

    Raises:
        ValueError: if the size is above 256 MiB and above 100 times the packed one, and above what
            MOIETY_UNPACK_BYTES allows; or above half of the machine's memory.
    """
    packed = path.stat().st_size if packed is None else packed
    allowed = max(ALWAYS, RATIO * packed, read_allowed_bytes())
    if size > allowed:
        raise ValueError(
            f"{path} has {packed} bytes but unpacks to {size}, more than the {allowed} allowed; if "
            f"you trust it, set the environment variable {VARIABLE}={size}"
        )
    check_memory(2 * size, f"{path} unpacks to {size} bytes, and copies of it", FEWER)


def read_allowed_bytes() -> int:
    """Read what the user allows; 0 where nothing is said.

    Raises:
        ValueError: if it is no number.
    """
    said = os.environ.get(VARIABLE, "0")
    if not said.isdecimal():
        raise ValueError(f"{VARIABLE}={said!r}; give a whole number of bytes")
    return int(said)
