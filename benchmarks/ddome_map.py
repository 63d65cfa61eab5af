"""A shared expert, corrected answers, inputs that differ: ``python -m benchmarks.ddome_map``.

On cells of the map (digits; hidden units and classes of a worker; or all classes, and each worker
sees digits in a turn or in colours of its own), FedAvg, the common expert, DDOME and DDOME with a
shared expert are scored on unseen workers, each without and with corrected answers. ``--json FILE``
keeps cells and goes on where it stopped; ``--minutes M`` begins no cell after so many.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from benchmarks.ddome_cells import MAPPED, Cell, draw_inputs
from benchmarks.ddome_page import RESULTS, fill
from benchmarks.ddome_rivals import play_cell
from benchmarks.ddome_tables import write_mean
from benchmarks.gates import Book

PAGE = RESULTS / "ddome.md"
PLAYED = (
    ("common", "none"), ("fedavg", "none"), ("fedavg", "adjust"), ("ddome", "none"),
    ("ddome-shared", "none"), ("ddome-shared", "adjust"), ("ddome-shared-common", "none"),
)  # fmt: skip
RIVALS = [(m, p, served) for m, p in PLAYED[:3] for served in ("none", "em")]
"""Of the label-free rivals: method, local prior, prior when served."""

CANDIDATES = (
    ("ddome-shared", "adjust", "em"), ("ddome-shared", "none", "em"),
    ("ddome-shared-common", "none", "em"),
)  # fmt: skip
SEEDS = range(5)


def find_scores(book: Book, setting: str, way: tuple[str, str, str]) -> dict[int, float]:
    """Find the accuracy on unseen workers of a method, by seed."""
    method, prior, served = way
    found = {seed: book.figures.get(Cell(setting, method, prior, seed).key) for seed in SEEDS}
    return {seed: one[served]["unseen"] for seed, one in found.items() if one}


def compare(ours: dict[int, float], theirs: dict[int, float]) -> str:
    """Write the mean difference over shared seeds and its standard error; bold is not enough.

    >>> compare({0: 90.0, 1: 92.0}, {0: 91.0, 1: 91.0})
    '+0.0 ± 1.0'
    """
    apart = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
    if not apart[1:]:
        return "".join(f"{one:+.1f}, one seed" for one in apart) or "-"
    error = statistics.stdev(apart) / len(apart) ** 0.5
    mean = statistics.fmean(apart)
    return (
        f"{mean:+.1f} ± {error:.1f}" if mean >= -0.5 - error else f"**{mean:+.1f} ± {error:.1f}**"
    )


def write_map(book: Book) -> str:
    """Write a line a setting: accuracies, and how far the candidates are from the best rival."""
    ways = [(method, prior, served) for method, prior in PLAYED for served in ("none", "em")]
    head = ["setting", *(f"{m}, {p}, {s}" for m, p, s in ways), "best rival",
            *(f"{m}, {p}, less it" for m, p, _ in CANDIDATES), "seeds"]  # fmt: skip
    lines = [head, ["---"] * len(head)]
    for setting in MAPPED:
        found = {way: find_scores(book, setting, way) for way in ways}
        most = max(len(found[way]) for way in RIVALS)
        met = [way for way in RIVALS if len(found[way]) == most]  # means over the same seeds
        if not most or not found[CANDIDATES[1]]:
            continue
        best = max(met, key=lambda way: statistics.fmean(found[way].values()))
        counts = [len(one) for one in found.values() if one]
        lines.append([
            setting, *(write_mean(list(one.values())) for one in found.values()), ", ".join(best),
            *(compare(found[way], found[best]) for way in CANDIDATES),
            f"{min(counts)} to {max(counts)}",
        ])  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(words: Sequence[str] | None = None) -> int:
    """Play what is lacking, and print the map."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="keep cells; go on from them")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no cell after so many")
    parser.add_argument("--settings", nargs="+", default=list(MAPPED))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--page", action="store_true", help="write the map into the page")
    said = parser.parse_args(words)
    torch.set_num_threads(1)
    draw_inputs()
    book, begun = Book.open(said.json), time.monotonic()
    for seed in said.seeds:
        for setting in said.settings:
            for method, prior in PLAYED:
                if time.monotonic() - begun < 60 * said.minutes:
                    cell = Cell(setting, method, prior, seed)
                    book.measure(cell.key, partial(play_cell, cell))
    table = write_map(book)
    print(table)
    if said.page:
        PAGE.write_text(fill(PAGE.read_text(), {"shared map": table}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
