"""What rounds of independent subnets cost, measured beside what ``moiety plan`` predicts.

Perceptrons on Fashion-MNIST, GCNs on Cora as one graph, GraphSAGE on clusters of Coauthor CS.
Bytes in the ledger of a run and operations of a round must agree exactly, memory of a worker's
step within 15 %, seconds of a round (engine ``pool`` with one process, median of 5) within 30 %.
The device's speed is measured with the pieces' own shapes, in the same process. A quick run takes
four workers, width 512, and gist on Cora.

    python -m benchmarks.ist_cost [--quick] [--check] [--json FILE]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gates import Book, Gate, machine, not_run, options, report
from moiety.core.ledger import read_ledger
from moiety.core.protocols import Method
from moiety.core.state import count_bytes, count_section_bytes
from moiety.engine.batches import read_batches
from moiety.engine.pool import Pool
from moiety.engine.serial import Serial
from moiety.engine.work import compute_gradient, use_one_thread
from moiety.methods.task import LocalTraining
from moiety.plan.costs import Forecast, Setting, forecast_round, measure_seconds
from moiety.plan.count import (
    Link,
    count_gcn,
    count_graph_flops,
    count_perceptron,
    count_perceptron_activations,
    count_perceptron_flops,
    count_sage,
    count_step_memory,
    narrow_widths,
)
from moiety.plan.outline import AbstractRun, abstract_run
from moiety.plan.speed import time_median
from moiety.recipes import RECIPES
from moiety.recipes.build import build_run
from moiety.recipes.options import get_options, with_options
from moiety.recipes.record import Federation, Participation, Population
from moiety.rounds.synchronous import initialise_state, make_jobs, play_round
from moiety.run.group import start_run
from moiety.run.loop import LEDGER
from moiety.run.spec import resolve_run

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
            shared_test=True, first_rows=12_000,
        ),
        participation=Participation(size=num, fixed=True),
        net="normed",
        options=with_options(normed={"hidden": (width, width)}),
        local=LocalTraining(lr=0.05, momentum=0.0, batch=BATCH, epochs=0, steps=STEPS),
    )  # fmt: skip


def measure(num: int, width: int, method: str) -> dict[str, Any]:
    """Predict a round of perceptrons, then play it."""
    widths = (784, width, width, 10)
    mine = narrow_widths(widths, num) if method == "ist" else widths
    inputs = BATCH * 784 * 4
    told, found = both(record_of(num, width, method), method)
    return {
        "told": told,
        "formula": {
            "bytes": 2 * num * 4 * count_perceptron(mine),
            "flops": num * told["effort"]["steps"] * count_perceptron_flops(mine, BATCH),
            "memory": count_step_memory(
                count_perceptron(mine),
                0,
                count_perceptron_activations(mine, BATCH, 2),
                inputs=inputs,
            ),
            "memory_a3": count_step_memory(
                count_perceptron(mine), 0, count_perceptron_activations(mine, BATCH), inputs=inputs
            ),
        },
        "found": found,
    }


def graph_record(recipe: str, num: int, method: str) -> Federation:
    """Describe a run of a recipe on a graph; a round goes through all clusters once."""
    record = RECIPES[recipe].record
    steps = record.graph.clusters // record.local.batch
    return replace(
        record,
        methods=(method,),
        rounds=2,
        evaluate_every=2,
        engine="serial",
        population=replace(record.population, workers=num),
        participation=Participation(size=num, fixed=True),
        local=replace(record.local, steps=steps if record.graph.clusters > 1 else STEPS),
    )


def measure_graph(recipe: str, num: int, method: str) -> dict[str, Any]:
    """Predict a round of graph networks, then play it."""
    record = graph_record(recipe, num, method)
    told, found = both(record, method)
    plan = abstract_run(record, SEED)
    widths = (
        record.graph.project,
        *get_options(record.options, record.net)["hidden"],
        plan.task.classes,
    )
    mine = narrow_widths(widths, num) if method == "gist" else widths
    plain = record.net == "gcn"
    numbers = count_gcn(mine) if plain else count_sage(mine[0], mine[1], mine[-1], 2, 1)
    made = build_run(record, method, SEED).method
    sizes = [
        (len(batch["x"]), batch["edges"].shape[1])
        for job in make_jobs(made, initialise_state(made), sorted(plan.rows), {}, SEED)
        for rows in [plan.rows[job.worker]]
        for batch, _ in read_batches(rows, made.solve.plan(rows.size, job))
    ]
    flops = (count_graph_flops(mine, n, e + n if plain else e, 1 if plain else 2) for n, e in sizes)
    return {
        "told": told,
        "formula": {"bytes": 2 * num * 4 * numbers, "flops": sum(flops)},
        "found": found,
    }


def both(record: Federation, method: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Predict a round, then play it; predictions of seconds and rounds take turns.

    A machine that others use as well is now slow and now fast, for both of a turn alike.
    """
    plan, setting, built = (
        abstract_run(record, SEED),
        Setting(Link()),
        build_run(record, method, SEED),
    )
    told, cohort = forecast_round(method, plan, setting), sorted(plan.rows)
    found = {
        "bytes": ledger_bytes(record, method),
        "flops": flops_of(built.method, plan, cohort),
        "memory": peak_bytes(built.method, plan, cohort),
    }
    turns = [
        (again(told, plan, setting), seconds_of(built.method, plan, cohort)) for _ in range(REPEATS)
    ]
    told_s, found_s = zip(*turns, strict=True)
    found = {**found, "seconds": statistics.median(found_s), "turns": found_s}
    return {**asdict(told), "serial_s": statistics.median(told_s), "turns": told_s}, found


def again(told: Forecast, plan: AbstractRun, setting: Setting) -> float:
    """Measure once more how long all jobs and the server take, one after the other."""
    efforts = dict.fromkeys(plan.rows, told.cost)  # those of these cases are alike
    step_s, job_s, slice_s = measure_seconds(told.method, plan, setting, efforts, {})
    return len(efforts) * (told.cost.steps * step_s + job_s) + slice_s


def ledger_bytes(record: Federation, method: str) -> int:
    """Play a run and read the bytes of its rounds, which must be alike."""
    with tempfile.TemporaryDirectory() as folder:
        spec, built = resolve_run("own", record, method, SEED)
        start_run(spec, built, Path(folder) / "run")
        rounds = read_ledger(Path(folder) / "run" / LEDGER).rounds
    (found,) = {entry.down_bytes + entry.up_bytes for entry in rounds}
    return found


def flops_of(method: Method, plan: AbstractRun, cohort: Sequence[int]) -> int:
    """Count the operations of a round as it is played."""
    engine, sparse = Serial(plan.rows.__getitem__), Sparse()
    with FlopCounterMode(display=False) as counter, sparse:
        play_round(method, engine, initialise_state(method), cohort, SEED)
    return counter.get_total_flops() + sparse.flops


class Sparse(TorchDispatchMode):
    """Counts sparse products, and keeps them from torch's counter.

    It leaves them out forwards and takes them for dense ones backwards.
    """

    flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        del types
        matrix = next((one for one in args if isinstance(one, Tensor) and one.is_sparse), None)
        if matrix is None or func.overloadpacket not in PRODUCTS:
            return func(*args, **(kwargs or {}))
        self.flops += 2 * matrix._nnz() * args[-1].shape[1]  # noqa: SLF001
        with _disable_current_modes():
            return func(*args, **(kwargs or {}))


PRODUCTS = (torch.ops.aten.mm, torch.ops.aten._sparse_addmm)  # noqa: SLF001


def peak_bytes(method: Method, plan: AbstractRun, cohort: Sequence[int]) -> int:
    """Watch torch's allocator during a step of the first worker; what it began with counts too.

    Of batches that are unlike, the step on the largest.
    """
    solve: Any = method.solve
    job = next(iter(make_jobs(method, initialise_state(method), cohort, {}, SEED)))
    rows = plan.rows[job.worker]
    steps = read_batches(rows, solve.plan(rows.size, job), draws_noise=not solve.stackable)
    batch, lr = max(steps, key=lambda step: count_bytes(step[0]))
    batch = {name: column.clone() for name, column in batch.items()}
    carry = solve.start(job, {})
    params = {name: t.clone().requires_grad_() for name, t in carry["params"].items()}
    carry = {**carry, "params": params}

    def step() -> None:
        grads, _ = compute_gradient(solve, carry, batch, "")
        with torch.no_grad():
            solve.move_in_place(carry, grads, lr)

    step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        step()
    events = [e for e in watched.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = (
        count_bytes(params) + count_bytes(batch) + count_section_bytes(carry["optimizer_state"])
    )
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def seconds_of(method: Method, plan: AbstractRun, cohort: Sequence[int]) -> float:
    """Time a round of the fast engine in this process."""
    engine, state = Pool(plan.rows.__getitem__, processes=1), initialise_state(method)
    with use_one_thread():
        return time_median(lambda: play_round(method, engine, state, cohort, SEED), 1, 0)


def gates_of(key: str, figures: dict[str, Any]) -> list[Gate]:
    """Compare one case."""
    told, formula, found = figures["told"], figures["formula"], figures["found"]
    exact = []
    for what, planned in (("bytes", told["traffic"]["total"]), ("flops", told["flops_all"])):
        good = found[what] == planned == formula[what]
        words = f"{found[what]:,} (plan {planned:,}, formula {formula[what]:,})"
        exact.append(Gate(f"{key}: {what} of a round", "equal", words, good))
    planned = {"bytes": told["memory_bytes"], "formula": formula.get("memory")}
    memories = [
        near(f"{key}: memory, {what}", found["memory"], size, MEMORY_WITHIN)
        for what, size in planned.items()
        if size is not None
    ]
    return [
        *exact,
        *memories,
        near(f"{key}: seconds", found["seconds"], told["serial_s"], SECONDS_WITHIN),
    ]


def near(name: str, found: float, planned: float, within: float) -> Gate:
    """Ask that what was found be near what was planned."""
    ratio = found / planned
    words = f"{found:.4g} of {planned:.4g} ({ratio:.3f})"
    return Gate(name, f"ratio within {within:.0%}", words, abs(ratio - 1) <= within)


def cases(*, quick: bool) -> dict[str, Callable[[], dict[str, Any]]]:
    """Name what is measured."""
    found = {}
    for width in (512,) if quick else (512, 2048):
        for num in (4,) if quick else (2, 4, 8):
            for method in METHODS:
                found[f"{method} n={num} width={width}"] = partial(measure, num, width, method)
    for recipe in ("gist-cora",) if quick else ("gist-cora", "gist-cs"):
        for num in (4,) if quick else (2, 4):
            for method in ("gist",) if quick else ("gist", *METHODS[1:]):
                take = partial(measure_graph, recipe, num, method)
                found[f"{method} m={num} {recipe}"] = take
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure."""
    told = options(__doc__ or "", arguments)
    book = Book.open(told.json, closed=told.kept)
    gates: list[Gate] = []
    for key, take in cases(quick=told.quick).items():
        gates += gates_of(key, book.measure(key, take))
    if told.quick:
        for name in ("width 2048, n = 2, 8", "whole graph networks, m = 2, Coauthor CS"):
            gates.append(not_run(name, "as planned", "needs a full run"))
    return report(gates, book, told, machine())


if __name__ == "__main__":
    sys.exit(main())
