"""MoPs on made-up skills: a base that has them, and requests whose wording names one (Q1 to Q8).

    python -m benchmarks.mops_skills [--base FOLDER] [--minutes N] [--check] [--json FILE]

The base is trained first, which takes minutes, and kept in the folder if one is named. The rate of
every rival and of MoPs is chosen on validation records with seed 0, for each place; forms of MoPs
run at the rate of MoPs. A run goes on with what the file lacks.
"""

from __future__ import annotations

import argparse
import functools
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.gates import Book, Gate, machine, not_run, options, report, spread
from benchmarks.mops_parts.cells import (
    REASON,
    Cell,
    Measuring,
    find_rate,
    list_figures,
    list_tried,
    show_seeds,
)
from benchmarks.mops_parts.skilled import open_base
from benchmarks.mops_parts.variants import (
    CENTRAL,
    COUNT,
    GRID,
    ONE,
    PRUNED,
    TWO,
    VARIANTS,
    measure_zero,
    run_cell,
)

SEEDS = (0, 1, 2)
CHOSEN = ("MoPs", "prompt tuning", "deep prompts, no gate")
"""Methods whose rate is chosen; all others run at that of the first."""

LESS = ", 30% pruned"
METHODS = {
    ONE: tuple(VARIANTS),
    TWO: (
        *CHOSEN,
        "MoPs, all uses heard",
        "MoPs, one expert a worker",
        "MoPs, two experts a worker",
        "MoPs, one expert a request",
        "oracle",
    ),
    CENTRAL: (*CHOSEN, "MoPs, gate not taught", "MoPs, gate drawn and frozen", "oracle"),
    CENTRAL + LESS: CHOSEN,
    ONE + LESS: CHOSEN,
}


def name_zero(pruned: float) -> str:
    """Name the figure of a base as it is."""
    return f"base, {pruned:.0%} pruned"


def find_place(place: str) -> str:
    """Find the place whose rates are taken: pruned bases and two skills try none."""
    return ONE if place == TWO else place.removesuffix(LESS)


def at_best(book: Book, place: str, name: str, seed: int) -> Cell | None:
    """Give the cell of a method at its best rate; None where not all rates were tried."""
    at, own = find_place(place), name if name in CHOSEN else CHOSEN[0]
    lr = find_rate(book, at, own, GRID)
    if lr is None or len(list_tried(book, at, own, GRID)) < len(GRID):
        return None
    return Cell(place, name, lr, seed)


def list_cells(book: Book) -> Iterator[Cell]:
    """List what is to be measured, the most wanted first; rates are known by then."""
    for place in (ONE, CENTRAL):
        yield from (Cell(place, name, lr, 0) for name in CHOSEN for lr in GRID)
        if place == ONE:
            yield from find_cells(book, ONE, 0)
    for seed in SEEDS:
        for place in (CENTRAL, ONE, CENTRAL + LESS, ONE + LESS):
            yield from find_cells(book, place, seed)
    for seed in SEEDS:
        yield from find_cells(book, TWO, seed)


def find_cells(book: Book, place: str, seed: int) -> Iterator[Cell]:
    """Find the cells of a place and a seed."""
    for name in METHODS[place]:
        cell = at_best(book, place, name, seed)
        if cell is not None:
            yield cell


def list_place(book: Book, place: str, name: str, what: str = "test") -> list[float]:
    """List a figure of a method at its best rate, one a seed."""
    return list_figures(book, at_best(book, place, name, 0), SEEDS, what)


def judge_mean(name: str, asked: float, mine: Sequence[float], rival: Sequence[float]) -> Gate:
    """Ask that a mean perplexity be below a rival's by some percent."""
    words = f"at least {asked:g} %" if asked else "above 0 %"
    if not mine or not rival:
        return not_run(name, words, REASON)
    cut = 100 * (1 - statistics.fmean(mine) / statistics.fmean(rival))
    said = f"{cut:.1f} %, {len(mine)} seeds to {len(rival)}"
    return Gate(name, words, said, cut >= asked if asked else cut > 0)


def judge_first(book: Book) -> Iterator[Gate]:
    """Ask Q1 and Q2: over workers of one skill each, below what has no gate."""
    zero = [book.figures[name_zero(0)]["test"]["all"]] if name_zero(0) in book.figures else []
    for question, form, asked in (
        ("Q1", "MoPs", (20, 20, 15)),
        ("Q2", "MoPs, one expert a worker", (25, 25, 25)),
        ("Q2", "MoPs, one expert a request", (25, 25, 25)),
    ):
        mine = list_place(book, ONE, form)
        rivals = {name: list_place(book, ONE, name) for name in CHOSEN[1:]}
        for (name, rival), least in zip(
            {**rivals, "the bare base": zero}.items(), asked, strict=True
        ):
            yield judge_mean(f"{question}: {form} below {name}", least, mine, rival)
    for form in ("MoPs, one expert a worker", "MoPs, one expert a request"):
        yield judge_ratio(
            f"Q2: {form} to the oracle", 1.05, list_place(book, ONE, form),
            list_place(book, ONE, "oracle"),
        )  # fmt: skip


def judge_ratio(
    name: str, asked: float, mine: Sequence[float], rival: Sequence[float], *, least: bool = False
) -> Gate:
    """Ask that a mean perplexity be at most, or at least, so many times another."""
    words = f"at {'least' if least else 'most'} {asked:g}x"
    if not mine or not rival:
        return not_run(name, words, REASON)
    ratio = statistics.fmean(mine) / statistics.fmean(rival)
    ok = ratio >= asked if least else ratio <= asked
    return Gate(name, words, f"{ratio:.3f}x, {len(mine)} seeds to {len(rival)}", ok)


def judge_gates(book: Book) -> Iterator[Gate]:
    """Ask Q4: that the gate keeps telling skills apart while it learns."""
    for what, words, least in (
        ("aligned", f"at least 7 of {COUNT}", 7),
        ("nmi", "at least 0.8", 0.8),
    ):
        name, found = f"Q4: over workers, {what}", list_place(book, ONE, "MoPs", what)
        if found:
            yield Gate(name, words, spread(found), min(found) >= least)
        else:
            yield not_run(name, words, REASON)


def judge_rest(book: Book) -> Iterator[Gate]:
    """Ask Q3 and Q5 to Q8."""
    central, workers = (list_place(book, place, "MoPs") for place in (CENTRAL, ONE))
    for name in CHOSEN[1:]:
        rival = list_place(book, CENTRAL, name)
        yield judge_mean(f"Q3: central, MoPs below {name}", 20, central, rival)
    plain = list_place(book, ONE, "MoPs, plain mean")
    for form, mine, asked in (
        ("MoPs, gate not taught", workers, 1.2),
        ("MoPs, gate not taught, plain mean", plain, 1.05),
    ):
        rival = list_place(book, ONE, form)
        yield judge_ratio(f"Q5: {form}, to the taught one", asked, rival, mine, least=True)
    for place, mine in ((ONE, workers), (CENTRAL, central)):
        rival = list_place(book, place, "oracle")
        yield judge_ratio(f"Q6: {place}, the oracle to MoPs", 1.02, rival, mine)
    rival = list_place(book, ONE, "prompt tuning")
    yield judge_mean("Q7: MoPs by a plain mean below prompt tuning", 0, plain, rival)
    for place in (ONE, CENTRAL):
        mine = list_place(book, place + LESS, "MoPs")
        for name in CHOSEN[1:]:
            rival = list_place(book, place + LESS, name)
            yield judge_mean(f"Q8: {place + LESS}, MoPs below {name}", 0, mine, rival)


def show_all(book: Book) -> Iterator[Gate]:
    """Show the perplexity of every method at every place."""
    for pruned in (0.0, PRUNED):
        if name_zero(pruned) in book.figures:
            found = book.figures[name_zero(pruned)]["test"]["all"]
            yield Gate(f"the base as it is, {pruned:.0%} pruned", "-", f"{found:.3f}")
    for place, name in ((place, name) for place, names in METHODS.items() for name in names):
        found, cell = list_place(book, place, name), at_best(book, place, name, 0)
        if found and cell:
            yield Gate(f"{place}: {name}", "-", f"{show_seeds(found, digits=3)}; rate {cell.lr:g}")
        else:
            yield not_run(f"{place}: {name}", "-", REASON)


def judge_all(book: Book) -> list[Gate]:
    """Judge what is in the book."""
    return [*judge_first(book), *judge_gates(book), *judge_rest(book), *show_all(book)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is lacking, print, keep."""
    mine = argparse.ArgumentParser(add_help=False)
    mine.add_argument("--minutes", type=float, default=math.inf)
    mine.add_argument("--base", type=Path)
    asked, rest = mine.parse_known_args(arguments)
    told = options(__doc__ or "", rest)
    if told.quick:
        raise SystemExit("--quick is not there: training the base alone takes minutes")
    torch.set_num_threads(1)
    book = Book.open(told.json, closed=told.kept)
    base = functools.cache(lambda: open_base(asked.base))

    def run(cell: Cell) -> dict[str, Any]:
        return run_cell(base(), cell)

    held = Measuring(book, time.monotonic() + 60 * asked.minutes, run)
    for pruned in (0.0, PRUNED):
        held.measure(name_zero(pruned), lambda pruned=pruned: measure_zero(base(), pruned))
    for cell in list_cells(book):
        held.take(cell)
    return report(judge_all(book), book, told, machine())


if __name__ == "__main__":
    raise SystemExit(main())
