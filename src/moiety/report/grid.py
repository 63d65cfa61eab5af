"""What a page shows: a figure, and its numbers as tables of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """A table as text; ``words`` columns come first and are set to the left."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1


@dataclass(frozen=True)
class PageFigure:
    """A figure: its finding, how to read it, the picture and its numbers."""

    key: str
    title: str
    finding: str
    reading: str
    svg: str
    grids: Sequence[Grid]
