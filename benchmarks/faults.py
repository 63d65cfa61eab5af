"""Runs that cannot be ruined: what was tried to ruin them, and how often they stood.

    python -m benchmarks.faults [--quick] [--check] [--json FILE]

A row is good where every try ended as it should: with the right result, or with a sentence and an
exit code of its own, nothing that was there changed, and never with a traceback, a hang or a wrong
result. A quick run tries some of each row. A full run that is stopped goes on with the rows that
are left.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.gates import Book, Gate, machine, not_run, options, report

SHOWN = 20
"""Bad tries of a row that are told in full."""


@dataclass(frozen=True)
class Row:
    """A kind of fault.

    Args:
        name: how the table calls it.
        least: how many tries a full run asks for.
        part: the module of ``benchmarks.faults_parts``.
        play: its function: tries, and gives how many there were, how many were good, and what was
            wrong with the others.
    """

    name: str
    least: int
    part: str
    play: str = "run"


ROWS = (
    Row("ranks that disagree", 11, "ranks", "run_disagreements"),
    Row("stopped or absent ranks", 6, "ranks", "run_losses"),
    Row("two processes in a folder", 6, "folders"),
    Row("mutated files", 3000, "files", "run_mutated"),
    Row("crafted files", 100, "files", "run_crafted"),
    Row("options and values", 400, "options"),
    Row("kills", 200, "kills"),
)


def measure_row(row: Row, *, quick: bool) -> dict[str, Any]:
    """Play a row."""
    part = importlib.import_module(f"benchmarks.faults_parts.{row.part}")
    tried, good, bad = vars(part)[row.play](quick=quick)
    return {"tried": tried, "good": good, "bad": bad[:SHOWN]}


def judge_row(row: Row, told: dict[str, Any], *, quick: bool) -> Gate:
    """Ask that all tries be good, and of a full run that there be enough."""
    least = 1 if quick else row.least
    ok = told["good"] == told["tried"] and told["tried"] >= least
    asked = f"all of at least {least}"
    return Gate(row.name, asked, f"{told['good']} good of {told['tried']} tried", ok)


def main(arguments: Sequence[str] | None = None) -> int:
    """Try, print, keep."""
    told = options(__doc__ or "", arguments)
    book, gates = Book.open(told.json, closed=told.kept), []
    for row in ROWS:
        key = f"{row.name}, quick" if told.quick else row.name
        found = book.several({key: partial(measure_row, row, quick=told.quick)})
        gates += [judge_row(row, one, quick=told.quick) for one in found]
        gates += [] if found else [not_run(row.name, f"all of at least {row.least}", "not kept")]
        for line in found[0]["bad"] if found else ():
            print(f"{row.name}: {line}", file=sys.stderr)
    return report(gates, book, told, machine())


if __name__ == "__main__":
    raise SystemExit(main())
