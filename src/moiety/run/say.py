"""What commands print."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any


def say(text: str) -> None:
    """Print to standard output."""
    print(text)


def say_json(value: Any) -> None:
    """Print one JSON document to standard output."""
    print(json.dumps(value, indent=2))


def warn(text: str) -> None:
    """Print to standard error."""
    print(text, file=sys.stderr)


def columns(rows: Sequence[Sequence[str]]) -> str:
    r"""Align rows of words in columns.

    >>> columns([["a", "b"], ["long", "c"]])
    'a     b\nlong  c'
    """
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
