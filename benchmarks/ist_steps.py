"""The statistical cost of parts: local steps of IST over those of local SGD, to one accuracy.

    python -m benchmarks.ist_steps [--quick] [--check] [--json FILE]

784-512-512-10 on the first 12,000 training rows of Fashion-MNIST, runs of ``moiety run
ist-fashion``, scored on all test rows every 40 local steps (80 where a round is as long). Both
methods take rounds of one length and the same seeds; medians of three. `moiety plan` assumes what
is measured here (``moiety.ops.cost.STATISTICAL``), and that it does is asked. A quick run looks at
four workers and the moderate accuracy, with one seed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.gates import Book, machine, options, report
from benchmarks.ist_rank import counted
from benchmarks.ist_runs import CHECKED, SEEDS, WORKERS
from moiety.engine.ranks import Ranks

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


def reached(accuracy: dict[str, float], target: float) -> float:
    """Give the local steps after which a target was first seen."""
    return min((int(s) for s, value in accuracy.items() if value >= target), default=math.nan)


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
            whole, parts = (reached(one, target) for one in told)
            found[target].append(parts / whole)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    told = options(__doc__ or "", arguments)
    torch.set_num_threads(1)
    book = Book.open(told.json, closed=told.kept)
    for every in ROUNDS:
        for n in WORKERS:
            print(every, n, ratios(book, n, every, SEEDS), flush=True)
    return report([], book, told, machine())


if __name__ == "__main__":
    sys.exit(main())
