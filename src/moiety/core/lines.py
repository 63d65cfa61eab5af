"""Lines of JSON, each with a digest of itself and of the one before: a change is noticed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

DIGEST_LENGTH = 16
DIGEST_MARK = ', "check": "'
"""What stands before the digest, which ends a line."""

FIRST = "first"
"""What stands for the digest of a line before the first."""

CHANGED = (
    "the line was changed after it was written, or does not follow the one before; bring the "
    "ledger back from a copy"
)


def add_line_digest(line: str, before: str = "") -> str:
    """Add to a line, which is a JSON object, the digest of it and of the line before.

    Args:
        line: without its end.
        before: the digest of the line before, or ``FIRST``; nothing in ledgers of old.

    >>> add_line_digest('{"round": 3}')
    '{"round": 3, "check": "d40907e68bf497fe"}'
    """
    digest = hashlib.sha256((before + line).encode()).hexdigest()[:DIGEST_LENGTH]
    return f'{line[:-1]}{DIGEST_MARK}{digest}"}}'


def read_line_digest(line: str) -> str:
    """Read the digest that ends a line; ``FIRST`` where there is none.

    >>> read_line_digest('{"round": 3, "check": "d40907e68bf497fe"}'), read_line_digest("")
    ('d40907e68bf497fe', 'first')
    """
    found = line.rstrip().rpartition(DIGEST_MARK)
    return found[2].removesuffix('"}') if found[1] else FIRST


def is_line_intact(line: str, before: str = "") -> bool:
    """Say whether a line is the one that its digest was made of, and stands where it was written.

    A digest without the line before, as ledgers had them of old, tells of the line alone.

    >>> line = add_line_digest('{"round": 3}', "d40907e68bf497fe")
    >>> is_line_intact(line, "d40907e68bf497fe"), is_line_intact(line, "a line is gone")
    (True, False)
    """
    plain = line.rpartition(DIGEST_MARK)[0] + "}"
    return line in (add_line_digest(plain, before), add_line_digest(plain))


def replace_nonfinite(value: Any) -> Any:
    """Write numbers that JSON does not know (NaN, infinity) as null."""
    if isinstance(value, Mapping):
        return {key: replace_nonfinite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [replace_nonfinite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def drop_nulls(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what was written as null."""
    return {key: value for key, value in raw.items() if value is not None}


def is_cut_short(line: bytes) -> bool:
    """Say whether a line without an end is the beginning of one, not one whose end was changed."""
    _, found, rest = line.rpartition(DIGEST_MARK.encode())
    return not found or len(rest) <= DIGEST_LENGTH + len('"}')


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Read a file line by line; a last line that was cut short (no line end) is left out.

    Returns:
        Each line without its end, and the digest of the one before.
    """
    before = FIRST
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n") and is_cut_short(line):
                return
            text = line.removesuffix(b"\n").decode(errors="replace")
            yield text, before
            before = read_line_digest(text)
