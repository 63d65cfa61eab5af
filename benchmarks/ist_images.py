"""ResIST, LoFT and convolutional IST on a CIFAR-10 subset, beside local SGD.

python -m benchmarks.ist_images [--quick] [--check] [--json FILE]

The first 10,000 training and 4,000 test images of CIFAR-10, averaged 2x2 to 16x16. All methods do
equal local steps on equal disjoint shards. ``--quick`` is a round on 640 rows, one seed.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch

from benchmarks.gates import NOT_RUN, Book, Gate, machine, not_run, options, report
from benchmarks.ist_parts.images import (
    QUICK,
    Figures,
    Scope,
    ablation,
    convolutions,
    depth,
    filters,
)
from moiety.models.residual import DEPTH

DEALS: Mapping[str, Sequence[str]] = {
    "local SGD": (),
    "section 3": (DEPTH,),
    "all sections": (f"{DEPTH}*",),
    "all and strided": (f"{DEPTH}*", "strided*"),
}
CUTS: Mapping[str, Sequence[str] | None] = {
    "local SGD": None,
    "hidden units dealt": ("c*",),
    "filters and units dealt": (),
}


def plans(scope: Scope) -> dict[str, Callable[[int], Figures]]:
    """Name everything that is measured, each for a seed."""
    made: dict[str, Callable[[int], Figures]] = {}
    for n in scope.workers:
        for least in (0, 1, 6) if n > 2 else (0, 1):
            made[f"depth n={n} least={least}"] = partial(depth, scope, n, least)
        for name, assignment in DEALS.items():
            made[f"deal n={n} {name}"] = partial(ablation, scope, n, assignment)
        for name, shared in CUTS.items():
            made[f"vgg n={n} {name}"] = partial(convolutions, scope, n, shared)
        made[f"loft n={n}"] = partial(filters, scope, n)
    return made


def measure(scope: Scope, book: Book) -> dict[str, list[Figures]]:
    """Measure everything, seed by seed and kind by kind; key -> figures of each seed."""
    takes, found = plans(scope), {}
    for seed in scope.seeds:
        for part in ("depth", "loft", "deal", "vgg"):
            for key in (key for key in takes if key.startswith(part)):
                named = f"{key}, seed {seed}, {scope.rows} rows, {scope.rounds} rounds"
                for told in book.several({named: partial(takes[key], seed)}):
                    found.setdefault(key, []).append(told)
    return found


def told(figures: Sequence[Figures], key: str) -> str:
    """Write one figure of all seeds."""
    return " / ".join(f"{one[key]:.3f}" for one in figures) or NOT_RUN


def mean(figures: Sequence[Figures], key: str) -> float:
    """Average one figure over seeds."""
    return statistics.fmean(one[key] for one in figures)


def sent(name: str, figures: Sequence[Figures], asked: int | None = None) -> Gate:
    """Ask that the bytes of a round be exactly those, if any are asked."""
    if not figures:
        return not_run(name, "-" if asked is None else f"{asked:,}", "no figure kept")
    found = sorted({one["bytes"] for one in figures})
    measured = " / ".join(f"{one:,}" for one in found)
    if asked is None:
        return Gate(name, "-", measured)
    return Gate(name, f"{asked:,}", measured, found == [asked])


ASKED = {
    "depth n=2 least=0": 4_807_968,
    "depth n=2 least=1": 3_026_208,
    "depth n=4 least=0": 9_615_936,
    "depth n=4 least=1": 4_270_656,
    "depth n=4 least=6": 6_052_416,
}
"""Bytes per round in all: 8 (n shared + n k block), of 77,778 and 18,560 parameters."""


def depth_gates(found: Mapping[str, list[Figures]], scope: Scope, *, full: bool) -> list[Gate]:
    """Ask of ResIST what was measured before."""
    gates = []
    for key, asked in ASKED.items():
        if key not in found:
            continue
        gates.append(sent(f"{key}: bytes a round", found[key], asked))
        scales = [name for name in found[key][0] if name != "bytes"]
        for scale in scales:
            about = "statistics of the test batch" if scale == "batch" else f"scale {scale}"
            gates.append(Gate(f"{key}: accuracy, {about}", "-", told(found[key], scale)))
    for n in scope.workers if full else ():
        base = mean(found[f"depth n={n} least=0"], "1")
        for least in (1, 6) if n > 2 else (1,):
            runs = found[f"depth n={n} least={least}"]
            share = max(-(-12 // n), least) / 12
            own, one = mean(runs, f"{share:g}"), mean(runs, "1")
            floor = 0.01 if n == 4 and least == 1 else 0.0
            gain, short = own - one, base - own
            label = f"ResIST n={n}, k={round(share * 12)}"
            asked = f"at least {floor:g}"
            gates.append(
                Gate(f"{label}: scaled over unscaled", asked, f"{gain:.4f}", gain >= floor)
            )
            gates.append(
                Gate(f"{label}: behind local SGD", "at most 0.03", f"{short:.4f}", short <= 0.03)
            )
    return gates


def other_gates(found: Mapping[str, list[Figures]], scope: Scope) -> list[Gate]:
    """Report the rest; only bytes are asked for."""
    gates = []
    for n in scope.workers:
        for name in DEALS:
            runs = found.get(f"deal n={n} {name}", [])
            gates.append(Gate(f"n={n}, dealt: {name}: scaled", "-", told(runs, "own")))
            gates.append(Gate(f"n={n}, dealt: {name}: unscaled", "-", told(runs, "1")))
        for name in CUTS:
            runs = found.get(f"vgg n={n} {name}", [])
            gates += [
                Gate(f"VGG n={n}, {name}: {key}", "-", told(runs, key))
                for key in ("recompute", "batch")
            ]
            gates.append(sent(f"VGG n={n}, {name}: bytes a round", runs))
        runs = found.get(f"loft n={n}", [])
        # 12 blocks of 2 * 9 * 32 * 32 weights and 2 * 32 numbers of the inner norm are dealt.
        asked = 8 * (n * 300_498 - (n - 1) * 12 * (18 * 1024 + 64))
        gates.append(sent(f"LoFT n={n}: bytes a round", runs, asked))
        for key, value in runs[0].items() if runs else ():
            if isinstance(value, float):
                gates.append(Gate(f"LoFT n={n}: {key}", "-", told(runs, key)))
        ends = [(one["ticket"][0], one["ticket"][-1]) for one in runs]
        way = " / ".join(f"{first:.2f} to {last:.2f}" for first, last in ends)
        gates.append(Gate(f"LoFT n={n}: ticket distance to local SGD", "-", way or NOT_RUN))
    return gates


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    asked = options(__doc__ or "", arguments)
    torch.set_num_threads(1)
    scope, book = QUICK if asked.quick else Scope(), Book.open(asked.json, closed=asked.kept)
    found = measure(scope, book)
    gates = depth_gates(found, scope, full=not asked.quick) + other_gates(found, scope)
    return report(gates, book, asked, machine())


if __name__ == "__main__":
    sys.exit(main())
