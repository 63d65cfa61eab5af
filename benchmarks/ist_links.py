"""Independent subnets over slow links: seconds to an accuracy, by method and length of a round.

    python -m benchmarks.ist_links [--quick] [--check] [--json FILE]

Four ranks, each in a network namespace of its own, joined by a bridge whose links ``tc tbf``
shapes both ways (needs root, ip and tc; otherwise said, and not run). Every method is tried with
several lengths of a round. Seconds to accuracy .83 on Fashion-MNIST are rounds x seconds of a
round. Measured on the shaped link: two or three rounds after a first one, the slowest rank's.
Counted without a link, and multiplied: rounds of the very same run to the target (a link changes no
number), scored on all test rows every 20 steps or after each round; its evaluation is on nobody's
clock. Then the best of IST and the best of the others race on the link, seconds of all rounds added
up, with three seeds. Ranks share the cores, so computing is that of a crowded machine; what
``moiety plan`` says beside is for as many workers to a core. A quick run counts the bytes of blocks
alone, on loopback.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.gates import Book, Gate, machine, not_run, options, report, spread
from benchmarks.ist_parts.network import network, ranks
from benchmarks.ist_rank import described
from benchmarks.ist_runs import TARGET
from moiety.plan.choice import choose_method
from moiety.plan.costs import Forecast, Setting, forecast_round
from moiety.plan.count import Link, interpolate_statistical_cost
from moiety.plan.outline import abstract_run

N, WIDE = 4, 2048
RATES, MBIT = {"100mbit": "100 Mbit/s", "1gbit": "1 Gbit/s"}, {"100mbit": 100.0, "1gbit": 1000.0}
LATENCY_MS, SEEDS, LATE = 0.1, (0, 1, 2), 0.85


def grid(width: int) -> dict[str, dict[str, Any]]:
    """Name the jobs at a width: each method with lengths of a round, of IST three layouts."""
    common = {"workers": N, "hidden": [width, width], "rounds": 2, "most": 400}
    ist = {**common, "method": "ist", "rounds": 3, "most": 1200}
    adam = {"lr": 0.001}
    jobs: dict[str, dict[str, Any]] = {}
    for every in (20, 40, 80):
        jobs[f"ist, partitioned, H {every}"] = {**ist, "every": every, "engine": "partitioned"}
        jobs[f"ist, peers, H {every}"] = {**ist, "every": every, "engine": "peers"}
        jobs[f"local_sgd, H {every}"] = {**common, "method": "local_sgd", "every": every}
    jobs["ist, replicated, H 40"] = {**ist, "every": 40, "rounds": 2}
    jobs["data_parallel"] = {**common, "method": "data_parallel", "every": 1, "rounds": 3}
    for every in (20, 40):
        jobs[f"diloco, H {every}"] = {**common, "method": "diloco", "every": every, "local": adam}
    return jobs


def alone(width: int) -> dict[str, Any]:
    """Describe one worker with all rows, which needs no link."""
    one = {"workers": 1, "hidden": [width, width], "method": "local_sgd"}
    return {**one, "every": 20, "rounds": 2, "most": 400}


def steps_to(
    book: Book, name: str, width: int, job: Mapping[str, Any], target: float = TARGET
) -> int | None:
    """Local steps to the target, of the very run that is timed, on two ranks without a link.

    The number of ranks changes no bit of a run.
    """
    asked = {**job, "kind": "counted", "look": max(20, job["every"]), "target": target}
    key = f"{name.replace('peers', 'partitioned')}, width {width}: steps"  # equal bit for bit
    if target != TARGET:
        asked["most"], key = 5 * job["most"] // 2, f"{key} to {target}"
    return book.measure(
        key, lambda: ranks({"it": asked}, [[]] * min(2, job["workers"]), "127.0.0.1", "lo")
    )["it"]["steps"]


def timings(book: Book, rate: str, width: int) -> dict[str, Any]:
    """Seconds of a round of every method on a shaped link."""
    found = {}
    for name, job in grid(width).items():

        def take(job: Mapping[str, Any] = job) -> Any:
            with network(N, rate) as prefixes:
                return ranks({"it": {**job, "kind": "timed"}}, prefixes, "10.77.0.1", "eth0")["it"]

        found[name] = book.measure(f"{name}, width {width}, {rate}: round", take)
    return found


COMPARED = ("ist", "local_sgd", "data_parallel")
"""What a plan compares."""


def at_best(found: Iterable[Forecast], method: str) -> Forecast:
    """Give a method with the rounds that bring it nearest to a late target per second, planned."""

    def price(one: Forecast) -> float:
        cost = interpolate_statistical_cost(N, one.cost.steps)[1] if method == "ist" else 1.0
        return cost * one.seconds(1)

    return min((one for one in found if one.method == method), key=price)


def planned(width: int) -> dict[str, Any]:
    """What ``moiety plan --layout ring`` says of the same rounds: seconds, and its choice.

    Each method at its best length of a round; workers share cores as in the measured runs.
    """
    told: dict[str, Any] = {}
    crowd = max(1.0, N / (os.cpu_count() or 1))
    for rate, mbit in MBIT.items():
        setting, found = Setting(Link(mbit, LATENCY_MS), "ring"), {}
        for name, job in grid(width).items():
            plan = abstract_run(described({**job}).record, 0)
            one = forecast_round(job["method"], plan, setting)
            found[name] = replace(one, work_s=crowd * one.work_s, server_s=crowd * one.server_s)
        few = {method: at_best(found.values(), method) for method in COMPARED}
        steps = few["ist"].cost.steps
        choice = choose_method(few, steps, interpolate_statistical_cost(N, steps))
        told[rate] = {"choice": choice.method, "reason": choice.reason}
        told[rate] |= {"gain": choice.system_gain, "cost": choice.statistical_cost}
        told[rate]["round_s"] = {name: one.round_s for name, one in found.items()}
    return told


def race(book: Book, width: int, rate: str, names: Sequence[str]) -> dict[str, list[float]]:
    """Let some methods run to the target on the link, with three seeds."""
    found = {}
    for name in names:
        job = {**grid(width)[name], "kind": "raced", "target": TARGET, "seeds": SEEDS}

        def take(job: Mapping[str, Any] = job) -> Any:
            with network(N, rate) as prefixes:
                return ranks({"it": job}, prefixes, "10.77.0.1", "eth0")["it"]

        told = book.measure(f"{name}, width {width}, {rate}: race", take)
        found[name] = [one["seconds"] for one in told.values()]
    return found


def first_of(told: Mapping[str, float], *, ist: bool) -> str:
    """Name the quickest of those that are IST, or that are not."""
    return min((name for name in told if name.startswith("ist") == ist), key=lambda n: told[n])


def links(book: Book, width: int, rates: Sequence[str]) -> list[Gate]:
    """Seconds to the target at a width, by link; IST first at 100 Mbit/s and width 2,048."""
    if os.geteuid() or not shutil.which("ip") or not shutil.which("tc"):
        asked = "IST first at 100 Mbit/s" if width == WIDE else "-"
        return [not_run(f"seconds to .83, width {width}", asked, "needs root, ip and tc")]
    jobs, one = grid(width), alone(width)
    found = {rate: timings(book, rate, width) for rate in rates}
    steps = {name: steps_to(book, name, width, job) for name, job in jobs.items()}
    single = steps_to(book, "one worker", width, one)
    lone = {"it": {**one, "kind": "timed"}}
    each = book.measure(
        f"one worker, width {width}: round", lambda: ranks(lone, [[]], "127.0.0.1", "lo")["it"]
    )["seconds"]
    plan = book.measure(f"plan, width {width}", lambda: planned(width))
    gates = [
        Gate(f"one worker without a link, width {width}: seconds to .83", "-",
             f"{single} steps of {each / one['every']:.3f} s"
             + (f": {single / one['every'] * each:.0f} s" if single else ""))
    ]  # fmt: skip
    for rate in rates:
        told = {
            name: (steps[name] or math.inf) / job["every"] * found[rate][name]["seconds"]
            for name, job in jobs.items()
        }
        gates += link_gates(width, rate, told, (steps, found[rate], plan[rate]))
        if width == WIDE and rate == "100mbit":
            pair = [first_of(told, ist=True), first_of(told, ist=False)]
            gates.append(race_gate(width, rate, race(book, width, rate, pair)))
        if width != WIDE:
            gates.append(late_gate(book, width, rate, found[rate], plan[rate]))
    return gates


def late_gate(book: Book, width: int, rate: str, found: Any, plan: Any) -> Gate:
    """Say who is first to a target near the end, and whether the plan says so."""
    told = {}
    for name, job in grid(width).items():
        steps = steps_to(book, name, width, job, LATE)
        told[name] = (steps or math.inf) / job["every"] * found[name]["seconds"]
    few = [first_of(told, ist=True), first_of(told, ist=False)]
    first = min(few, key=lambda name: told[name])
    pays = plan["gain"] > plan["cost"][1]
    text = "; ".join(f"{name}: {told[name]:.1f} s" for name in few)
    text += f". Plan: gain {plan['gain']:.2f}, cost near the end {plan['cost'][1]:.3g}"
    name = f"seconds to {LATE:g} at best, {RATES[rate]}, width {width}; plan says who is first"
    return Gate(name, "the same", text, first.startswith("ist") == pays)


def link_gates(
    width: int, rate: str, told: Mapping[str, float], about: tuple[Any, Any, Any]
) -> list[Gate]:
    """Say who needs how many seconds on a link, and what the plan had said."""
    (steps, found, plan), order = about, sorted(told, key=lambda name: told[name])
    gated = width == WIDE and rate == "100mbit"
    where = f"{RATES[rate]}, width {width}"
    gates = []
    for place, name in enumerate(order):
        one, ok = found[name], None
        if gated and not place:
            ok = name.startswith("ist") and math.isfinite(told[name])
        text = (
            f"{told[name]:.1f} s ({steps[name]} steps; a round {one['seconds']:.2f} s, planned"
            f" {plan['round_s'][name]:.2f} s; {one['bytes'] / 1e6:.2f} MB sent by a rank)"
        )
        asked = "IST first" if gated and not place else "-"
        gates.append(Gate(f"seconds to .83, {where}, {place + 1}: {name}", asked, text, ok))
    first, choice = order[0], plan["choice"]
    said = f"plan {choice}, measured {first}: {plan['reason']}"
    agree = first.startswith(choice)
    gates.append(Gate(f"plan says who is first, {where}", "the same", said, agree))
    return gates


def race_gate(width: int, rate: str, raced: Mapping[str, Sequence[float]]) -> Gate:
    """Ask that IST be first in a race, whatever the seed."""
    ist, other = raced
    text = "; ".join(f"{name}: {spread(values, ' s')}" for name, values in raced.items())
    good = all(a < b for a, b in zip(raced[ist], raced[other], strict=True))
    name = f"race to .83, {RATES[rate]}, width {width}, three seeds"
    return Gate(name, "IST first with every seed", text, good)


def quick() -> list[Gate]:
    """Count the bytes of a round in blocks, on loopback."""
    width, n = 1024, N
    job = {**grid(width)["ist, partitioned, H 20"], "kind": "timed", "every": 2}
    sent = ranks({"it": job}, [[]] * n, "127.0.0.1", "lo")["it"]["bytes"]
    inner = width // n
    asked = 2 * (n - 1) * 4 * (784 * inner + inner * inner + 14 * inner) // n
    name = "bytes sent by a rank in a round in blocks, formula 9.4"
    return [
        Gate(name, f"{asked}", f"{sent}", sent == asked),
        not_run("links", "IST first at 100 Mbit/s", "needs a full run"),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    told = options(__doc__ or "", arguments)
    book = Book.open(told.json, closed=told.kept)
    if told.quick:
        return report(quick(), book, told, machine())
    gates = [
        *links(book, WIDE, ["100mbit"]),
        *links(book, WIDE, ["1gbit"])[1:],
        *links(book, 512, list(RATES)),
    ]
    return report(gates, book, told, machine())


if __name__ == "__main__":
    sys.exit(main())
