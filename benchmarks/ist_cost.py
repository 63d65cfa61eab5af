"""What rounds of independent subnets cost, measured beside what ``moiety plan`` predicts.

Bytes in the ledger of a run and operations of a round must agree exactly, memory of a worker's
step within 15 %, seconds of a round (engine ``pool`` with one process, median of 5) within 30 %.
The device's speed is measured with the pieces' own shapes, in the same process.

    python -m benchmarks.ist_cost [--quick] [--check] [--json FILE]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gates import Book, Gate, machine, options, report
from moiety.core.ledger import read
from moiety.core.play import begin, dispatch, play
from moiety.core.protocols import Method
from moiety.core.state import count_bytes
from moiety.engine.feed import feed
from moiety.engine.pace import median_s
from moiety.engine.pool import Pool
from moiety.engine.serial import Serial
from moiety.engine.work import gradient, one_thread
from moiety.methods.task import Local
from moiety.ops.cost import (
    Link,
    hand,
    memory,
    perceptron,
    perceptron_flops,
    perceptron_kept,
)
from moiety.recipes.build import build
from moiety.recipes.costs import Setting, forecast
from moiety.recipes.outline import Outline, outline
from moiety.recipes.record import Federation, Net, Population, Turnout
from moiety.run.group import start_run
from moiety.run.loop import LEDGER
from moiety.run.spec import resolve

BATCH, STEPS, SEED, REPEATS = 64, 20, 0, 5
METHODS = ("ist", "local_sgd", "data_parallel")
MEMORY_WITHIN, SECONDS_WITHIN = 0.15, 0.30


def record_of(num: int, width: int, method: str) -> Federation:
    """Describe a run on Fashion-MNIST, 784-width-width-10, rows dealt evenly."""
    return Federation(
        methods=(method,),
        data="fashion-mnist",
        rounds=2,
        evaluate_every=2,
        engine="serial",
        population=Population(
            scheme="iid", workers=num, unseen=0, anchors=0, public=0.0, validation=0.0,
            together=True, first=12_000,
        ),
        turnout=Turnout(size=num, fixed=True),
        net=Net("normed", hidden=(width, width)),
        local=Local(lr=0.05, momentum=0.0, batch=BATCH, epochs=0, steps=STEPS),
    )  # fmt: skip


def measure(num: int, width: int, method: str) -> dict[str, Any]:
    """Predict a round, then play it."""
    record = record_of(num, width, method)
    plan = outline(record, SEED)
    told = forecast(method, plan, Setting(Link()))
    built = build(record, method, SEED)
    roster = sorted(plan.rows)
    widths = (784, width, width, 10)
    mine = hand(widths, num) if method == "ist" else widths
    kept = perceptron_kept(mine, BATCH, 2)
    inputs = BATCH * 784 * 4
    return {
        "told": {**asdict(told), "serial_s": told.works_s + told.slice_s},
        "formula": {
            "bytes": 2 * num * 4 * perceptron(mine),
            "flops": num * told.effort.steps * perceptron_flops(mine, BATCH),
            "memory": memory(perceptron(mine), 0, kept, inputs=inputs),
            "memory_a3": memory(perceptron(mine), 0, perceptron_kept(mine, BATCH), inputs=inputs),
        },
        "found": {
            "bytes": ledger_bytes(record, method),
            "flops": flops_of(built.method, plan, roster),
            "memory": peak_bytes(built.method, plan, roster),
            "seconds": seconds_of(built.method, plan, roster),
        },
    }


def ledger_bytes(record: Federation, method: str) -> int:
    """Play a run and read the bytes of its rounds, which must be alike."""
    with tempfile.TemporaryDirectory() as folder:
        spec, built = resolve("own", record, method, SEED)
        start_run(spec, built, Path(folder) / "run")
        rounds = read(Path(folder) / "run" / LEDGER).rounds
    (found,) = {entry.down_bytes + entry.up_bytes for entry in rounds}
    return found


def flops_of(method: Method, plan: Outline, roster: Sequence[int]) -> int:
    """Count the operations of a round as it is played."""
    engine = Serial(plan.rows.__getitem__)
    with FlopCounterMode(display=False) as counter:
        play(method, engine, begin(method), roster, SEED)
    return counter.get_total_flops()


def peak_bytes(method: Method, plan: Outline, roster: Sequence[int]) -> int:
    """Watch torch's allocator during a step of the first worker; what it began with counts too."""
    solve: Any = method.solve
    job = next(iter(dispatch(method, begin(method), roster, {}, SEED)))
    rows = plan.rows[job.worker]
    batch, lr = next(feed(rows, solve.plan(rows.size, job)))
    batch = {name: column.clone() for name, column in batch.items()}
    carry = solve.start(job, {})
    params = {name: t.clone().requires_grad_() for name, t in carry["params"].items()}
    carry = {**carry, "params": params}

    def step() -> None:
        grads, _ = gradient(solve, carry, batch, "")
        with torch.no_grad():
            solve.move_in_place(carry, grads, lr)

    step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        step()
    events = [e for e in watched.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = count_bytes(params) + count_bytes(batch)
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def seconds_of(method: Method, plan: Outline, roster: Sequence[int]) -> float:
    """Time rounds of the fast engine in this process; the first warms up."""
    engine, state = Pool(plan.rows.__getitem__, processes=1), begin(method)
    with one_thread():
        return median_s(lambda: play(method, engine, state, roster, SEED), REPEATS, 1)


def gates_of(key: str, figures: dict[str, Any]) -> list[Gate]:
    """Compare one case."""
    told, formula, found = figures["told"], figures["formula"], figures["found"]
    exact = []
    for what, planned in (("bytes", told["traffic"]["total"]), ("flops", told["flops_all"])):
        good = found[what] == planned == formula[what]
        words = f"{found[what]:,} (plan {planned:,}, formula {formula[what]:,})"
        exact.append(Gate(f"{key}: {what} of a round", "equal", words, good))
    return [
        *exact,
        near(f"{key}: memory, bytes", found["memory"], told["memory_bytes"], MEMORY_WITHIN),
        near(f"{key}: memory, formula", found["memory"], formula["memory"], MEMORY_WITHIN),
        near(f"{key}: seconds", found["seconds"], told["serial_s"], SECONDS_WITHIN),
    ]


def near(name: str, found: float, planned: float, within: float) -> Gate:
    """Ask that what was found be near what was planned."""
    ratio = found / planned
    words = f"{found:.4g} of {planned:.4g} ({ratio:.3f})"
    return Gate(name, f"ratio within {within:.0%}", words, abs(ratio - 1) <= within)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure."""
    told = options(__doc__ or "", arguments)
    book = Book.open(told.json)
    cases = [(num, width, method) for width in (512, 2048) for num in (2, 4, 8)
             for method in METHODS]  # fmt: skip
    if told.quick:
        cases = [(num, 512, method) for num in (2, 4, 8) for method in METHODS]
    gates: list[Gate] = []
    for case in cases:
        key = "{2} n={0} width={1}".format(*case)
        gates += gates_of(key, book.measure(key, partial(measure, *case)))
    return report(gates, book, told, machine())


if __name__ == "__main__":
    sys.exit(main())
