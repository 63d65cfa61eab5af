"""Runs of ``moiety run ist-fashion`` as figures, and the formulas that they are held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from benchmarks.gates import Book
from benchmarks.trial import Trial, ledger_of

SEEDS = (0, 1, 2)
STEPS, BATCH, H = 600, 64, 20
TARGET = 0.83
WORKERS = (2, 4, 8)
CHECKED = 40
"""Local steps between evaluations where a target is looked for."""

Figures = Mapping[str, Any]


def trial(
    method: str,
    n: int,
    hidden: Sequence[int] = (512, 512),
    *,
    steps: int = STEPS,
    every: int = H,
    norm: str = "batch",
    look: int = STEPS,
    recipe: str = "ist-fashion",
    population: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Trial:
    """Describe a run: a method on n workers, ``every`` local steps a round, ``steps`` in all."""
    changes: dict[str, Any] = {
        "rounds": steps // every,
        "evaluate_every": max(1, min(look, steps) // every),
        "population": {"workers": n, **(population or {})},
        "participation": {"size": n},
        "normed": {"hidden": list(hidden), "norm": norm},
        "local": {"steps": every},
        **({method: dict(options)} if options else {}),
    }
    return Trial(f"{method}, n = {n}", method, recipe, changes)


def played(what: Trial, seed: int) -> Figures:
    """Play a run as the command line does, and read its ledger."""
    ledger = ledger_of(what, seed)
    every = what.record.local.steps
    return {
        "accuracy": {
            str(e.round * every): e.groups["test"].metrics["accuracy"][0]
            for e in ledger.evaluations
        },
        "bytes": sorted({entry.down_bytes + entry.up_bytes for entry in ledger.rounds}),
        "worker_bytes": sorted({w.down_bytes for r in ledger.rounds for w in r.workers}),
        "seconds": sum(entry.seconds for entry in ledger.rounds),
        "parameters": ledger.start.num_parameters,
    }


def runs(book: Book, key: str, what: Trial, seeds: Sequence[int] = SEEDS) -> list[Figures]:
    """Play some seeds, each kept by itself."""
    return book.several({f"{key}, seed {s}": partial(played, what, s) for s in seeds})


def last(found: Sequence[Figures]) -> list[float]:
    """Give the accuracy at the end, by seed."""
    return [one["accuracy"][max(one["accuracy"], key=int)] for one in found]


def reached(found: Figures, target: float = TARGET) -> int | None:
    """Give the local steps after which a target was first seen; None if never."""
    steps = [int(s) for s, value in found["accuracy"].items() if value >= target]
    return min(steps, default=None)


def piece(widths: Sequence[int], n: int) -> int:
    """Count the parameters of a part: spec section 9.1, subnets of equal size."""
    inner = [width // n for width in widths[1:-1]]
    cut = [widths[0], *inner, widths[-1]]
    return sum(a * b for a, b in pairwise(cut)) + 2 * sum(inner)


def step_flops(widths: Sequence[int], n: int) -> int:
    """Count the multiply-adds, twice, of a worker's step: section 9.2, matrices only."""
    inner = [width // n for width in widths[1:-1]]
    cut = [widths[0], *inner, widths[-1]]
    matrices = sum(a * b for a, b in pairwise(cut))
    return BATCH * (6 * matrices - 2 * cut[0] * cut[1])
