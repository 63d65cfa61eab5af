"""AsyncDrop in small: who is first to a target in virtual time when nobody is waited for.

Section 8.6 of the specification: 20 workers with two class shards of Fashion-MNIST each, 8 at a
time, the slowest five times slower. Nothing is asked of the order: the paper's seeds spread by up
to 8 points. Run with ``python -m benchmarks.ist_async [--quick] [--check] [--json FILE]``.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from benchmarks.gates import Book, Gate, machine, options, report, shown
from benchmarks.trial import Trial, ledger_of
from moiety.core.rows import TableRows
from moiety.core.streams import stream
from moiety.engine.serial import Serial
from moiety.methods.asyncdrop import asyncdrop
from moiety.methods.task import LocalTraining, Task
from moiety.models.mlp import mlp
from moiety.rounds.asynchronous import AsynchronousRounds, Concurrency
from moiety.rounds.schedule import Schedule
from moiety.rounds.synchronous import initialise_state

SECONDS, QUICK_SECONDS, SEEDS, TARGET = 160, 40, (0, 1, 2), 0.60
"""Virtual seconds of a run and of a quick one; seeds; the accuracy to reach."""

JOBS = 8 / 3
"""Jobs a second: eight at a time, three seconds each in the mean of the levels."""

BUFF = {"size": 4, "rate": 1.0, "staleness": "polynomial", "change": True}

TRIALS: Mapping[str, tuple[str, Mapping[str, Any], str]] = {
    "hetero AsyncDrop": ("asyncdrop", {}, "61.90 +- 6.39; 822.5 s"),
    "random AsyncDrop": ("asyncdrop", {"asyncdrop": {"hetero": False}}, "60.85 +- 9.78; 822.5 s"),
    "no drop (async FedAvg)": ("fedavg", {}, "61.59 +- 10.02; 1096.1 s"),
    "FedAsync, polynomial": (
        "fedavg",
        {"schedule": {"staleness": "polynomial"}},
        "async, weighted: 60.14 +- 10.28; 1096.1 s",
    ),
    "FedBuff, K = 4": ("fedavg", {"schedule": BUFF}, "59.96 +- 7.64; 1827.3 s"),
    "async FjORD": ("fjord", {}, "36.92 +- 6.00; not reached"),
    "sync FedAvg": ("fedavg", {"schedule": {"kind": "sync"}}, "not given"),
}
"""Name -> method, changes of the recipe, and table 4.5 of the paper: MLP, to 59.95 %."""


def rounds(schedule: Schedule, seconds: float) -> tuple[int, int]:
    """Give the commits of so many virtual seconds, about, and those between evaluations."""
    if schedule.is_synchronous:
        return round(seconds / 4.8), 2  # the slowest of eight of twenty
    return round(seconds * JOBS / schedule.size), max(1, 20 // schedule.size)


def trial(name: str, seed: int, seconds: float) -> Mapping[str, Any]:
    """Play one seed: (virtual seconds, accuracy on the test of all) of every evaluation."""
    method, changes, _ = TRIALS[name]
    what = Trial(name, method, "asyncdrop-fashion", changes)
    count, every = rounds(what.record.schedule, seconds)
    length = {"rounds": count, "evaluate_every": every, "engine": "serial"}
    ledger = ledger_of(replace(what, changes={**changes, **length}), seed)
    clock = {entry.round: entry.clock for entry in ledger.rounds}
    late = [r.round - 1 - work.model_version for r in ledger.rounds for work in r.workers]
    return {
        "curve": [
            [clock[e.round], e.groups["test"].metrics["accuracy"][0]] for e in ledger.evaluations
        ],
        "bytes": sum(r.down_bytes + r.up_bytes for r in ledger.rounds),
        "jobs": len(late),
        "stale_mean": statistics.mean(late),
        "stale_most": max(late),
    }


def reached(found: Mapping[str, Any]) -> float | None:
    """Give the virtual seconds at the first evaluation that reaches the target."""
    return next((seconds for seconds, value in found["curve"] if value >= TARGET), None)


def floor(places: int, seed: int, commits: int) -> tuple[float, int]:
    """Give the loss that random AsyncDrop ends with, and the largest staleness.

    Sixteen workers of one speed and rows alike, in full batches: with ``places`` at a time every
    reply, but for the first, is ``places - 1`` commits late, and nothing else differs. The mean
    loss over the last tenth of the commits.
    """
    rng = stream(seed, "floor")
    x = torch.nn.functional.normalize(torch.randn(240, 12, generator=rng), dim=1)
    table = {"x": x, "y": (x @ torch.randn(12, 4, generator=rng)).argmax(1)}
    data = {worker: TableRows(table, torch.arange(worker, 240, 16)) for worker in range(16)}
    local = LocalTraining(lr=0.5, momentum=0.0, batch=30, epochs=0, steps=5)
    net = mlp((12, 64, 4), stream(seed, "net"))
    method = asyncdrop(Task(net, local), hetero=False)
    schedule = Schedule("buffered", 1, rate=0.5)
    rounds = AsynchronousRounds(
        method, Serial(data.__getitem__), Concurrency(16, places), seed, schedule
    )
    state, losses, most = initialise_state(method), [], 0
    for commit in range(commits):
        state, entry = rounds.advance(state)
        most = max([most, *(commit - work.model_version for work in entry.workers)])
        if 10 * commit >= 9 * commits:
            z = net.logits(state.params, {"x": x}, {})
            losses.append(float(torch.nn.functional.cross_entropy(z, table["y"])))
    return statistics.mean(losses), most


def lines(book: Book, seconds: float, seeds: Sequence[int]) -> list[Gate]:
    """Report every trial beside what was published; nothing is asked."""
    gates = []
    for name, (_, _, published) in TRIALS.items():
        found = [
            book.measure(f"{name}, {seconds} s, seed {s}", partial(trial, name, s, seconds))
            for s in seeds
        ]
        best = [100 * max(value for _, value in one["curve"]) for one in found]
        times = [reached(one) for one in found]
        here = [one for one in times if one is not None]
        said = shown("", here, " s").measured if here else "-"
        gates += [
            shown(f"{name}: best accuracy in {seconds} virtual s (published {published})", best),
            Gate(
                f"{name}: virtual s to {100 * TARGET:g} %",
                "-",
                f"{said}, {len(here)} of {len(times)} seeds reached it",
            ),
            shown(f"{name}: largest staleness", [float(one["stale_most"]) for one in found]),
            shown(f"{name}: MB sent in all", [one["bytes"] / 1e6 for one in found]),
        ]
    return gates


def direction(book: Book, commits: int, seeds: Sequence[int]) -> list[Gate]:
    """Show how the floor moves with the largest staleness (section 5.6)."""
    gates, means = [], []
    for places in (1, 4, 16):
        key = f"floor, {places} at a time, {commits} commits"
        found = book.measure(key, lambda p=places: [floor(p, seed, commits) for seed in seeds])
        means.append(statistics.mean(loss for loss, _ in found))
        late = max(most for _, most in found)
        gates.append(shown(f"loss at the end, replies {late} commits late", [x for x, _ in found]))
    grows = means == sorted(means)
    measured = ", ".join(f"{mean:.4f}" for mean in means)
    gates.append(Gate("the floor grows with the largest staleness", "grows", measured, grows))
    return gates


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and keep."""
    assert __doc__ is not None
    told = options(__doc__.splitlines()[0], arguments)
    book = Book.open(told.json, closed=told.kept)
    torch.set_num_threads(1)
    seconds, seeds = (QUICK_SECONDS, SEEDS[:1]) if told.quick else (SECONDS, SEEDS)
    gates = lines(book, seconds, seeds) + direction(book, 120 if told.quick else 600, SEEDS)
    return report(gates, book, told, machine())


if __name__ == "__main__":
    sys.exit(main())
