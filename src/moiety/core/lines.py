"""Lines of JSON that end with a digest of the rest, so that a change is noticed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

DIGEST_LENGTH = 16


def add_line_digest(line: str) -> str:
    """Add to a line, which is a JSON object, the digest of it.

    >>> add_line_digest('{"round": 3}')
    '{"round": 3, "check": "d40907e68bf497fe"}'
    """
    digest = hashlib.sha256(line.encode()).hexdigest()[:DIGEST_LENGTH]
    return f'{line[:-1]}, "check": "{digest}"}}'


def is_line_intact(line: str) -> bool:
    """Say whether a line is the one that its digest was made of."""
    return line == add_line_digest(line.rpartition(', "check": "')[0] + "}")


def replace_nonfinite(value: Any) -> Any:
    """Write numbers that JSON does not know (NaN, infinity) as null."""
    if isinstance(value, Mapping):
        return {key: replace_nonfinite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [replace_nonfinite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def is_cut_short(line: bytes) -> bool:
    """Say whether a line without an end is the beginning of one, not one whose end was changed."""
    _, found, rest = line.rpartition(b', "check": "')
    return not found or len(rest) <= DIGEST_LENGTH + len('"}')


def drop_nulls(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what was written as null."""
    return {key: value for key, value in raw.items() if value is not None}
