"""Text for terminals."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence

HIDDEN = {
    code: "?"
    for first, last in (
        (0x00, 0x08),  # C0, but for tab and line feed
        (0x0B, 0x1F),
        (0x7F, 0x9F),  # DEL and C1
        (0x061C, 0x061C),  # marks and overrides of direction
        (0x200E, 0x200F),
        (0x2028, 0x202E),
        (0x2066, 0x2069),
        (0xD800, 0xDFFF),  # halves of characters
    )
    for code in range(first, last + 1)
}


def hide_controls(text: str) -> str:
    r"""Write what would steer a terminal, or turn text around, as question marks.

    >>> hide_controls("a\x1b[31mb\u202ec")
    'a?[31mb?c'
    """
    return text.translate(HIDDEN)


def write_command(*words: object) -> str:
    """Write a command of ours so that a shell reads its words as they are.

    >>> write_command("resume", "runs/a b; c")
    "moiety resume 'runs/a b; c'"
    """
    return shlex.join(["moiety", *map(str, words)])


def write_some(names: Collection[str], most: int = 8) -> str:
    """Write names for a sentence, the first ones of many.

    >>> write_some(["a", "b", "c"]), write_some(["a", "b", "c"], 2)
    ("['a', 'b', 'c']", "['a', 'b'] and 1 more")
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{list(names)[:most]}{more}"


def align_columns(rows: Sequence[Sequence[str]]) -> str:
    r"""Align rows of words in columns.

    >>> align_columns([["a", "b"], ["long", "c"]])
    'a     b\nlong  c'
    """
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
