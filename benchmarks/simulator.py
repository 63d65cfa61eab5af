"""How fast the engines are: ``python -m benchmarks.simulator [--quick] [--check] [--json FILE]``.

The work is Fashion-MNIST over 100 workers of 600 rows, 10 in a round, batches of 20, one epoch,
against a plain PyTorch loop, Flower and pfl. The last two run where MOIETY_BENCH_FLWR and
MOIETY_BENCH_PFL name a Python that has them. Figures are ratios within one run, turn by turn.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from typing import Any

from benchmarks.contest import ROOT, accuracy, apart, auto, by_hand, contest, ours, peer, ratios
from benchmarks.gates import Book, Gate, at_least, at_most, machine, not_run, options, report, shown
from benchmarks.work import clothing, crowd, real
from moiety.engine.serial import Serial
from moiety.engine.vectorized import Vectorized

QUICK_SLACK = 0.8
"""A quick run is short, and noisier: it asks for this share of what the full run asks."""

CEILING = "two plain loops side by side without exchange"

Figures = dict[str, list[float]]


def networks(kind: str, turns: int, rounds: int, *, all_engines: bool) -> Figures:
    """Time the plain loop and the engines on a network."""
    work = clothing(kind)
    one, two = auto(work, 1), auto(work, 2)
    contenders = {
        "plain": by_hand(work),
        "auto, 1 core": ours(work, one),
        "auto, 2 cores": ours(work, two),
        CEILING: apart(work),
    }
    if all_engines:
        contenders["serial"] = ours(work, Serial(work.open))
        contenders["vectorized"] = ours(work, Vectorized(work.open))
    seconds = contest(contenders, turns=turns, rounds=rounds)
    two.close()  # pyright: ignore[reportAttributeAccessIssue]
    return seconds


def many(rows: int, turns: int) -> Figures:
    """Time the plain loop and ours on 256 workers of a tiny network, on one core."""
    work = crowd(rows)
    return contest({"plain": by_hand(work), "auto": ours(work, auto(work, 1))}, turns=turns)


def against(script: str, python: str, kind: str, actors: int, turns: int) -> Figures:
    """Time another library and ours in turns, on the same number of processes."""
    work = clothing(kind)
    engine = auto(work, actors)
    seconds: Figures = {"peer": [], "auto": []}
    for _ in range(turns):
        found = peer(script, python, kind, rounds=5, actors=actors)
        seconds["peer"].append(statistics.median(found))
        seconds["auto"] += contest({"auto": ours(work, engine)}, turns=1, rounds=5)["auto"]
    engine.close()  # pyright: ignore[reportAttributeAccessIssue]
    return seconds


def populations(turns: int, powers: tuple[int, ...] = (2, 4, 6)) -> Figures:
    """Measure rounds by powers of ten of registered workers, each in a fresh process."""
    found: Figures = {}
    for _ in range(turns):
        for power in powers:
            command = [sys.executable, "-m", "benchmarks.population", str(10**power)]
            out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
            told = json.loads(out.stdout)
            found.setdefault(f"seconds 10^{power}", []).append(statistics.median(told["seconds"]))
            found.setdefault(f"MiB 10^{power}", []).append(told["peak_mib"])
    return found


def network_gates(book: Book, kind: str, name: str, *, quick: bool) -> list[Gate]:
    """Compare with the plain loop on one network."""
    slack = QUICK_SLACK if quick else 1.0
    turns, rounds = (5, 1) if quick else {"mlp": (15, 3), "cnn": (9, 1), "wide": (3, 1)}[kind]
    full = not quick and kind != "wide"
    key = f"{kind}{', quick' if quick else ''}"
    found = book.measure(key, lambda: networks(kind, turns, rounds, all_engines=full))
    plain = found["plain"]
    one, two = found["auto, 1 core"], found["auto, 2 cores"]
    gates = [at_least(f"{name}: auto against the plain loop, 1 core", slack, ratios(plain, one))]
    if quick:  # cores may be shared with others, which meets both of these alike
        label, against, floor = CEILING, found[CEILING], 0.7
    else:
        label, against, floor = "the plain loop", plain, 1.6
    gates.append(at_least(f"{name}: auto, 2 cores, against {label}", floor, ratios(against, two)))
    ceiling = ratios(plain, found[CEILING])
    gates.append(shown(f"{name}: {CEILING}, over one, what this machine allows", ceiling, "x"))
    return gates + [shown(f"{name}: {who}, seconds a round", s) for who, s in found.items()]


def crowd_gates(book: Book, *, quick: bool) -> list[Gate]:
    """Compare with the plain loop on many tiny workers."""
    name = "256 workers of a 64-8-10 net, {} rows: auto against the plain loop, 1 core"
    key, turns = ("crowd, quick", 3) if quick else ("crowd", 9)
    found = book.measure(key, lambda: many(600, turns))
    floor = 8 * (QUICK_SLACK if quick else 1.0)
    gates = [at_least(name.format(600), floor, ratios(found["plain"], found["auto"]))]
    if not quick:
        few = book.measure("crowd of few rows", lambda: many(60, 9))
        gates.append(at_least(name.format(60), floor, ratios(few["plain"], few["auto"])))
    return gates


def peer_gates(book: Book, *, quick: bool) -> list[Gate]:
    """Compare with Flower and pfl where they are installed."""
    gates = []
    cases = [("Flower", "flower", "MOIETY_BENCH_FLWR", 2, {"mlp": 10.0, "cnn": 4.0}),
             ("pfl", "pfl", "MOIETY_BENCH_PFL", 1, {"mlp": None, "cnn": None})]  # fmt: skip
    for title, script, variable, processes, floors in cases:
        for kind, floor in floors.items():
            name = f"{kind.upper()}: auto against {title}, {processes} processes each"
            asked = "-" if floor is None else f"at least {floor:g}x"
            python, key = os.environ.get(variable, ""), f"{script} {kind}"
            if quick or (not python and key not in book.figures):
                gates.append(not_run(name, asked, "quick" if quick else f"{variable} is not set"))
                continue
            take: Any = (against, script, python, kind, processes, 3)
            found = book.measure(key, lambda take=take: take[0](*take[1:]))
            times = ratios(found["peer"], found["auto"])
            gates.append(shown(name, times, "x") if floor is None else at_least(name, floor, times))
            gates.append(shown(f"{kind.upper()}: {title}, seconds a round", found["peer"]))
    return gates


def accuracy_gates(book: Book, *, quick: bool) -> list[Gate]:
    """Compare what is learnt in 20 rounds, in percentage points of accuracy."""
    gates = []
    for kind in ("mlp", "cnn"):
        name = f"{kind.upper()}: accuracy after 20 rounds, distance from the plain loop's mean"
        if quick or not real():
            reason = "quick" if quick else "MOIETY_DATA is not set"
            gates.append(not_run(name, "at most 1 point", reason))
            continue
        found = book.measure(f"accuracy {kind}", lambda kind=kind: accuracy(kind, (0, 1, 2)))
        apart = abs(statistics.mean(found["plain"]) - statistics.mean(found["moiety"]))
        gates.append(at_most(name, 1.0, [apart], " points"))
        gates += [shown(f"{kind.upper()}: accuracy of {who}, %", s) for who, s in found.items()]
    return gates


def population_gates(book: Book, *, quick: bool) -> list[Gate]:
    """Ask that a round cost the same whoever else is registered."""
    key, turns = ("population, quick", 1) if quick else ("population", 5)
    powers = (2, 6) if quick else (2, 4, 6)
    found = book.measure(key, lambda: populations(turns, powers))
    ceiling = 1.5 if quick else 1.1
    gates = []
    for unit in ("seconds", "MiB"):
        many_over_few = ratios(found[f"{unit} 10^6"], found[f"{unit} 10^2"])
        name = f"10 workers a round of 10^6, over 10 of 10^2: {unit}"
        gates.append(at_most(name, ceiling, many_over_few, "x"))
    return gates + [shown(f"10 workers a round: {who}", values) for who, values in found.items()]


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, keep."""
    told = options(__doc__ or "", arguments)
    book = Book.open(told.json, closed=told.kept)
    gates = network_gates(book, "mlp", "MLP", quick=told.quick)
    gates += crowd_gates(book, quick=told.quick)
    gates += population_gates(book, quick=told.quick)
    if told.quick:
        asked = "at least 1x; 1.6x with 2 cores"
        gates.append(not_run("CNN: auto against the plain loop", asked, "quick"))
    else:
        gates += network_gates(book, "cnn", "CNN", quick=False)
        gates += network_gates(book, "wide", "wide CNN", quick=False)
    gates += accuracy_gates(book, quick=told.quick) + peer_gates(book, quick=told.quick)
    facts = {**machine(), "rows": "Fashion-MNIST" if real() else "random: MOIETY_DATA is not set"}
    return report(gates, book, told, facts)


if __name__ == "__main__":
    raise SystemExit(main())
