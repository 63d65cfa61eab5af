"""The statistical cost of parts: local steps of IST over those of local SGD, to one accuracy.

    python -m benchmarks.ist_steps [--quick] [--check] [--json FILE]

784-512-512-10 on the first 12,000 training rows of Fashion-MNIST, runs of ``moiety run
ist-fashion``, scored on all test rows every 40 local steps (80 where a round is as long). Both
methods take rounds of one length and the same seeds; medians of three. `moiety plan` assumes what
is measured here (``moiety.plan.count.STATISTICAL``), and that it does is asked. A quick run looks
at four workers and rounds of 20 steps, with one seed.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.gates import Book, Gate, machine, not_run, options, report, spread
from benchmarks.ist_rank import counted
from benchmarks.ist_runs import CHECKED, SEEDS, WORKERS, reached
from moiety.engine.ranks import Ranks
from moiety.plan.count import interpolate_statistical_cost

ROUNDS = (20, 80)
"""Local steps of a round."""

TARGETS = (0.83, 0.85)
MOST = {"local_sgd": 800, "ist": 4000}
"""Local steps after which the search for the last target ends."""


def steps(method: str, n: int, every: int, seed: int) -> dict[str, Any]:
    """Play until the last target is reached; accuracy by local steps."""
    job = {"method": method, "workers": n, "hidden": [512, 512], "every": every, "seed": seed}
    looked = {"look": max(CHECKED, every), "most": MOST[method], "target": TARGETS[-1]}
    return counted(Ranks(), job | looked)["accuracy"]


def ratios(book: Book, n: int, every: int, seeds: Sequence[int]) -> dict[float, list[float]]:
    """Target -> steps of IST over those of local SGD, by seed."""
    found: dict[float, list[float]] = {target: [] for target in TARGETS}
    for seed in seeds:
        takes = {
            f"{method}, n = {n}, H = {every}, seed {seed}": partial(steps, method, n, every, seed)
            for method in MOST
        }
        told = book.several(takes)
        for target in TARGETS if len(told) == len(takes) else ():
            whole, parts = (reached({"accuracy": one}, target) or math.nan for one in told)
            found[target].append(parts / whole)
    return found


def gate(n: int, every: int, found: dict[float, list[float]]) -> Gate:
    """Ask that the plan assume the medians that were measured, to two digits."""
    name = f"n = {n}, H = {every}: steps of IST over those of local SGD, to .83 / .85"
    asked = interpolate_statistical_cost(n, every)
    text = f"assumed {asked[0]:.2g} / {asked[1]:.2g}"
    if not all(len(values) == len(SEEDS) for values in found.values()):
        return not_run(name, text, "no figure kept of every seed")
    middle = [statistics.median(values) for values in found.values()]
    agree = [f"{one:.2g}" for one in middle] == [f"{one:.2g}" for one in asked]
    return Gate(name, text, " / ".join(spread(values) for values in found.values()), agree)


def quick(book: Book) -> list[Gate]:
    """Look at four workers and the shorter round, with one seed."""
    middle, late = ratios(book, 4, ROUNDS[0], SEEDS[:1]).values()
    name = "n = 4, H = 20, seed 0: steps of IST over those of local SGD, to"
    return [
        Gate(f"{name} .83", "1.5 to 3", spread(middle), all(1.5 <= one <= 3 for one in middle)),
        Gate(f"{name} .85", "3 to 5", spread(late), all(3 <= one <= 5 for one in late)),
        *(not_run(f"n = {n}", "as assumed", "needs a full run") for n in WORKERS),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    told = options(__doc__ or "", arguments)
    torch.set_num_threads(1)
    book = Book.open(told.json, closed=told.kept)
    if told.quick:
        return report(quick(book), book, told, machine())
    pairs = [(n, every) for every in ROUNDS for n in WORKERS]
    gates = [gate(n, every, ratios(book, n, every, SEEDS)) for n, every in pairs]
    return report(gates, book, told, machine())


if __name__ == "__main__":
    sys.exit(main())
