"""Cells of a table: a method somewhere, at a learning rate, of a seed; figures lie in a book."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.gates import Book, Gate, not_run

REASON = "no time was left for it"


@dataclass(frozen=True)
class Cell:
    """One run.

    Args:
        place: who has which records, and on what base.
        name: of the method.
        lr: learning rate.
        seed: of draws.
    """

    place: str
    name: str
    lr: float
    seed: int

    @property
    def key(self) -> str:
        return f"{self.place}: {self.name}, rate {self.lr:g}, seed {self.seed}"


@dataclass
class Measuring:
    """What is measured until a time: a closed book gives what it has.

    Args:
        book: holds figures.
        end: when nothing more is begun, by the monotonic clock.
        run: plays a cell.
    """

    book: Book
    end: float
    run: Callable[[Cell], Any]

    def measure(self, key: str, run: Callable[[], Any]) -> None:
        """Measure what the book lacks, if there is time."""
        if key not in self.book.figures and not self.book.closed and time.monotonic() < self.end:
            self.book.measure(key, run)

    def take(self, cell: Cell) -> None:
        """Measure a cell."""
        self.measure(cell.key, lambda: self.run(cell))


def list_tried(book: Book, place: str, name: str, rates: Sequence[float]) -> list[float]:
    """List the rates that were tried, with seed 0."""
    return [lr for lr in rates if Cell(place, name, lr, 0).key in book.figures]


def find_rate(book: Book, place: str, name: str, rates: Sequence[float]) -> float | None:
    """Find the rate of those tried whose perplexity on validation records is least, seed 0."""
    tried = list_tried(book, place, name, rates)
    valid = {lr: book.figures[Cell(place, name, lr, 0).key]["valid"] for lr in tried}
    return min(valid, key=lambda lr: valid[lr]) if valid else None


def list_figures(
    book: Book, cell: Cell | None, seeds: Sequence[int], what: str = "test"
) -> list[float]:
    """List a figure of a cell, one a seed; none where there is no cell."""
    if cell is None:
        return []
    keys = [Cell(cell.place, cell.name, cell.lr, seed).key for seed in seeds]
    found = [book.figures[key][what] for key in keys if key in book.figures]
    return [one["all"] if what == "test" else one for one in found]


def show_seeds(found: Sequence[float], unit: str = "", digits: int = 2) -> str:
    """Write the median of some seeds and their range, or the figure of the one seed.

    >>> show_seeds([1.0, 4.0, 2.0], " %"), show_seeds([1.0])
    ('2.00 % (1.00 to 4.00)', '1.00 (one seed)')
    """
    middle, low, high = (one(found) for one in (statistics.median, min, max))
    if not found[1:]:
        return f"{middle:.{digits}f}{unit} (one seed)"
    return f"{middle:.{digits}f}{unit} ({low:.{digits}f} to {high:.{digits}f})"


def reduce_perplexity(mine: Sequence[float], rival: Sequence[float]) -> list[float]:
    """Say by how many percent a perplexity is below a rival's, seed by seed."""
    return [100 * (1 - one / other) for one, other in zip(mine, rival, strict=False)]


def judge_reduction(
    name: str, asked: float | None, mine: Sequence[float], rival: Sequence[float]
) -> Gate:
    """Ask that the median over seeds be below a rival's by some percent; None asks nothing."""
    words = "-" if asked is None else f"at least {asked:g} %"
    found = reduce_perplexity(mine, rival)
    if not found:
        return not_run(name, words, REASON)
    ok = None if asked is None else statistics.median(found) >= asked
    return Gate(name, words, show_seeds(found, " %"), ok)
