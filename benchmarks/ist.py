"""Independent subnets of perceptrons: every figure asked for beside the figure measured.

    python -m benchmarks.ist [--quick] [--check] [--json FILE]

Fashion-MNIST, its first 12,000 training rows dealt evenly, its 10,000 test rows; 600 local steps
of 64 rows; every run is one that ``moiety run ist-fashion`` can play. Accuracy is compared at equal
local steps, cost where a target is first reached. A quick run takes the digits and two gates.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import torch

from benchmarks.gates import Book, Gate, machine, not_run, options, percent, report, spread
from benchmarks.ist_parts.dealing import dealing
from benchmarks.ist_runs import (
    CHECKED,
    SEEDS,
    STEPS,
    TARGET,
    WORKERS,
    Figures,
    H,
    last,
    piece,
    played,
    reached,
    runs,
    step_flops,
    trial,
)
from benchmarks.trial import Trial


def tables(book: Book) -> dict[str, list[Figures]]:
    """Play the runs of the first table: two and three layers, with and without norms."""
    found = {}
    for hidden in ((512,), (512, 512)):
        layers = len(hidden) + 1
        single = trial("ist", 1, hidden)
        found[f"{layers} single"] = runs(book, f"{layers} layers, single", single)
        for n in WORKERS:
            for method in ("ist", "local_sgd"):
                key = f"{layers} layers, {method}, n = {n}"
                found[f"{layers} {method} {n}"] = runs(book, key, trial(method, n, hidden))
    for n in (1, *WORKERS):
        key = f"3 layers, ist without norms, n = {n}"
        found[f"none {n}"] = runs(book, key, trial("ist", n, norm="none"))
    return found


def equal_steps(found: Mapping[str, list[Figures]]) -> list[Gate]:
    """G1: near the single worker at equal steps, and no better with more workers."""
    gates = []
    for layers in (2, 3):
        single, means = statistics.mean(last(found[f"{layers} single"])), []
        for n in WORKERS:
            mean = statistics.mean(last(found[f"{layers} ist {n}"]))
            means.append(mean)
            bar = 0.035 if n == 8 else 0.025
            local = statistics.mean(last(found[f"{layers} local_sgd {n}"]))
            text = f"{single - mean:.4f} ({mean:.4f}; single {single:.4f}, local SGD {local:.4f})"
            name = f"G1 {layers} layers, n = {n}: below the single worker by"
            gates.append(Gate(name, f"at most {bar}", text, single - mean <= bar))
        rise = max(b - a for a, b in pairwise(means))
        gates.append(
            Gate(f"G1 {layers} layers: rise with n", "at most 0.005", f"{rise:.4f}", rise <= 0.005)
        )
    return gates


def norms(found: Mapping[str, list[Figures]]) -> list[Gate]:
    """G2: what the norms are worth."""
    gates = []
    for n, bar in ((2, None), (4, 0.03), (8, 0.06)):
        gains = [
            a - b for a, b in zip(last(found[f"3 ist {n}"]), last(found[f"none {n}"]), strict=True)
        ]
        mean = statistics.mean(gains)
        text = f"{mean:.4f} ({min(gains):.4f} to {max(gains):.4f})"
        asked = "-" if bar is None else f"at least {bar}"
        gates.append(Gate(f"G2 norms against none, n = {n}", asked, text, bar and mean >= bar))
    return gates


def rounds(book: Book) -> list[Gate]:
    """G3: local steps a round, at 3 layers and n = 4."""
    found = {
        h: statistics.mean(
            last(runs(book, f"3 layers, ist, n = 4, H = {h}", trial("ist", 4, every=h)))
        )
        for h in (1, 5, 100, STEPS)
    }
    found[H] = statistics.mean(last(runs(book, "3 layers, ist, n = 4", trial("ist", 4))))
    many = [value for h, value in found.items() if h < STEPS]
    text = ", ".join(f"H = {h} {found[h]:.4f}" for h in sorted(found))
    gap = found[STEPS] - found[100]
    return [
        Gate(
            "G3 spread over H = 1 to 100",
            "at most 0.02",
            f"{max(many) - min(many):.4f} ({text})",
            max(many) - min(many) <= 0.02,
        ),
        Gate("G3 one round of all steps over H = 100", "at most 0", f"{gap:.4f}", gap <= 0),
    ]


LOOKED = {
    ("ist", 512): 1200,
    ("ist", 2048): 1200,
    ("local_sgd", 512): 400,
    ("local_sgd", 2048): 200,
}
"""Local steps in which the target must be reached."""


def race(book: Book, width: int, n: int) -> dict[str, list[float]]:
    """Steps, FLOPs and bytes of IST over those of local SGD, where the target is first seen."""
    widths = (784, width, width, 10)
    ratios: dict[str, list[float]] = {"steps": [], "flops": [], "bytes": []}
    for seed in SEEDS:
        steps: dict[str, int | None] = {"ist": None, "local_sgd": None}
        for method in ("ist", "local_sgd"):
            steps_most = LOOKED[method, width]
            what = trial(method, n, (width, width), steps=steps_most, look=CHECKED)
            key = f"to {TARGET}: {method}, width {width}, n = {n}, seed {seed}"
            for found in book.several({key: partial(played, what, seed)}):
                steps[method] = reached(found)
        if steps["local_sgd"] is None:
            continue  # not reached, or a book that is closed lacks it: there is nothing to compare
        ratio = (steps["ist"] or math.inf) / steps["local_sgd"]
        ratios["steps"].append(ratio)
        ratios["flops"].append(ratio * step_flops(widths, n) / step_flops(widths, 1))
        ratios["bytes"].append(ratio * piece(widths, n) / piece(widths, 1))
    return ratios


def costs(book: Book) -> list[Gate]:
    """G4 and G6: what reaching the target costs, and that width helps."""
    gates, bytes_at = [], {}
    for width in (512, 2048):
        for n in (4, 8):
            ratios = race(book, width, n)
            for kind, bar in (("steps", None), ("flops", 0.6), ("bytes", 0.7)):
                name = f"G4 width {width}, n = {n}, to {TARGET}: {kind} over local SGD"
                asked = f"at most {bar}" if bar and width == 512 else "-"
                if len(ratios[kind]) < len(SEEDS):
                    cause = "no figure kept, or local SGD did not reach it with every seed"
                    gates.append(not_run(name, asked, cause))
                    continue
                middle = statistics.median(ratios[kind])
                ok = middle <= bar if bar and width == 512 else None
                gates.append(Gate(name, asked, spread(ratios[kind]), ok))
            bytes_at[width, n] = statistics.median(ratios["bytes"] or [float("nan")])
    for n in (4, 8):
        narrow, wide = bytes_at[512, n], bytes_at[2048, n]
        text = f"{wide:.3f} at 2,048 against {narrow:.3f} at 512"
        ok = None if wide != wide else wide < narrow
        gates.append(Gate(f"G6 n = {n}: bytes fall with width", "smaller", text, ok))
    return gates


def ledgers(found: Mapping[str, list[Figures]]) -> list[Gate]:
    """G5: what the ledger counted is what section 9 says, to the byte."""
    wrong, seen = [], 0
    for layers in (2, 3):
        widths = (784, *[512] * (layers - 1), 10)
        for n in WORKERS:
            for method, share in (("ist", n), ("local_sgd", 1)):
                asked = 2 * n * 4 * piece(widths, share)
                for one in found[f"{layers} {method} {n}"]:
                    seen += 1
                    if one["bytes"] != [asked]:
                        wrong.append((layers, n, method, one["bytes"], asked))
    text = f"{seen - len(wrong)} of {seen} runs agree" + (f"; {wrong[:2]}" if wrong else "")
    return [Gate("G5 bytes of a round, up and down, all workers", "equal", text, not wrong)]


UNLIKE = {
    "two classes a worker": {"scheme": "classes", "classes": 2},
    "Dirichlet 0.1": {"scheme": "dirichlet", "alpha": 0.1},
}


def epochs(population: Mapping[str, Any]) -> Trial:
    """Describe federated averaging as published: an epoch a round, weighed by rows.

    Thirteen passes are the rows of 600 steps of 64 at each of four workers.
    """
    what = trial("fedavg", 4, steps=13, every=1, population=population)
    local = {"steps": 0, "epochs": 1, "by_rows": True}
    return replace(what, changes={**what.changes, "evaluate_every": 13, "local": local})


def unlike(book: Book) -> list[Gate]:
    """Where the data of workers are not alike; nothing is asked."""
    gates = []
    for name, population in UNLIKE.items():
        told, tried = [], {"fedavg 1 epoch": epochs(population)}
        for method, every in (("ist", H), ("ist", 1), ("local_sgd", H), ("local_sgd", 1)):
            tried[f"{method} H = {every}"] = trial(method, 4, every=every, population=population)
        for label, what in tried.items():
            key = label.replace(" H", ", n = 4, H")
            found = last(runs(book, f"{name}: {key}", what))
            if not found:
                told.append(f"{label} not run")
                continue
            told.append(f"{label} {percent(found)}")
        gates.append(Gate(f"{name}, n = 4: accuracy (%)", "-", ", ".join(told)))
    return gates


def full(book: Book) -> list[Gate]:
    """Measure everything."""
    found = tables(book)
    return [
        *equal_steps(found),
        *norms(found),
        *rounds(book),
        *costs(book),
        *ledgers(found),
        *dealing(book),
        *unlike(book),
    ]


def quick(book: Book) -> list[Gate]:
    """Measure G1, G2 and G5 on the digits, one seed, n = 4."""
    made = {}
    for key, method, norm in (
        ("ist", "ist", "batch"),
        ("none", "ist", "none"),
        ("local", "local_sgd", "batch"),
    ):
        what = trial(method, 4, (128, 128), norm=norm, recipe="ist-digits")
        made[key] = book.measure(f"quick, {key}", lambda w=what: played(w, 0))
    ist, none, local = (last([made[key]])[0] for key in ("ist", "none", "local"))
    asked, sent = 2 * 4 * 4 * piece((64, 128, 128, 10), 4), made["ist"]["bytes"]
    below, gain = local - ist, ist - none
    left = ("G1", "G2", "G3", "G4", "G6", "workers' data not alike")
    return [
        Gate("digits, n = 4: below local SGD", "at most 0.04", f"{below:.4f}", below <= 0.04),
        Gate("digits, n = 4: norms against none", "at least 0.02", f"{gain:.4f}", gain >= 0.02),
        Gate("G5 digits: bytes of a round", f"{asked}", f"{sent}", sent == [asked]),
        *(not_run(name, "-", "needs a full run") for name in left),
    ]


def main() -> int:
    told = options(__doc__ or "")
    torch.set_num_threads(1)
    book = Book() if told.quick else Book.open(told.json, closed=told.kept)
    return report(quick(book) if told.quick else full(book), book, told, machine())


if __name__ == "__main__":
    raise SystemExit(main())
