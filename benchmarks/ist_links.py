"""Independent subnets over slow links, and the widest network that fits.

    python -m benchmarks.ist_links [--quick] [--check] [--json FILE]

Four ranks, each in a network namespace of its own, joined by a bridge whose links ``tc tbf``
shapes both ways (needs root, ip and tc; otherwise said, and not run). Seconds to accuracy .83 on
Fashion-MNIST are rounds x seconds of a round. Measured on the shaped link: two or three rounds
after a first one, the slowest rank's. Counted without a link, and multiplied: rounds of the very
same run to the target (a link changes no number), scored on all test rows every 20 or 40 steps;
its evaluation is on nobody's clock. Ranks share the cores, so computing is that of a crowded
machine; what ``moiety plan`` says, a core for each worker, stands beside. Of replicated IST the
bytes are not counted: pieces travel as objects, to every rank.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gates import Book, Gate, machine, not_run, options, report
from benchmarks.ist import TARGET
from benchmarks.ist_rank import described
from moiety.ops.cost import Link, statistical
from moiety.recipes.choice import decide
from moiety.recipes.costs import Setting, forecast
from moiety.recipes.outline import outline

N, WIDE = 4, 2048
RATES, MBIT = {"100mbit": "100 Mbit/s", "1gbit": "1 Gbit/s"}, {"100mbit": 100.0, "1gbit": 1000.0}
LATENCY_MS = 0.1
LIMIT = 48 << 20
"""Bytes of tensors that a rank may hold at once, in the search for the widest network."""

Jobs = Mapping[str, Mapping[str, Any]]


def grid(width: int) -> dict[str, dict[str, Any]]:
    """Name the jobs at a width; of local SGD two lengths of a round, of IST both layouts."""
    ist = 20 if width < 1000 else 40
    common = {
        "workers": N,
        "hidden": [width, width],
        "partitioned": False,
        "rounds": 2,
        "most": 400,
    }
    adam = {"lr": 0.001}
    return {
        f"ist, partitioned, H {ist}": {**common, "method": "ist", "every": ist, "partitioned": True,
                                       "rounds": 3, "most": 1200},
        f"ist, replicated, H {ist}": {**common, "method": "ist", "every": ist, "most": 1200},
        "local_sgd, H 20": {**common, "method": "local_sgd", "every": 20},
        "local_sgd, H 40": {**common, "method": "local_sgd", "every": 40},
        "data_parallel": {**common, "method": "data_parallel", "every": 1, "rounds": 3},
        "diloco, H 20": {**common, "method": "diloco", "every": 20, "local": adam},
    }  # fmt: skip


def alone(width: int) -> dict[str, Any]:
    """Describe one worker with all rows, which needs no link."""
    one = {"workers": 1, "hidden": [width, width], "partitioned": False, "method": "local_sgd"}
    return {**one, "every": 20, "rounds": 2, "most": 400}


def steps_to(book: Book, name: str, width: int, job: Mapping[str, Any]) -> int | None:
    """Local steps to the target, of the very run that is timed, on two ranks without a link.

    The number of ranks changes no bit of a run.
    """
    asked = {**job, "kind": "counted", "look": max(20, job["every"]), "target": TARGET}
    key = f"{name}, width {width}: steps"
    return book.measure(
        key, lambda: ranks({"it": asked}, [[]] * min(2, job["workers"]), "127.0.0.1", "lo")
    )["it"]["steps"]


def sh(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@contextlib.contextmanager
def network(n: int, rate: str) -> Iterator[list[list[str]]]:
    """Join namespaces by a bridge with shaped links; what to say before a command in each."""
    tag = f"m{os.getpid() % 10000}"
    names = [f"{tag}n{place}" for place in range(n)]
    try:
        sh("ip", "link", "add", f"{tag}b", "type", "bridge")
        sh("ip", "link", "set", f"{tag}b", "up")
        for place, name in enumerate(names):
            inside = ["ip", "netns", "exec", name]
            sh("ip", "netns", "add", name)
            sh("ip", "link", "add", f"{tag}v{place}", "type", "veth", "peer", "name", "eth0",
               "netns", name)  # fmt: skip
            sh("ip", "link", "set", f"{tag}v{place}", "master", f"{tag}b", "up")
            sh(*inside, "ip", "addr", "add", f"10.77.0.{place + 1}/24", "dev", "eth0")
            sh(*inside, "ip", "link", "set", "eth0", "up")
            sh(*inside, "ip", "link", "set", "lo", "up")
            shape = ["root", "tbf", "rate", rate, "burst", "256kb", "latency", "300ms"]
            sh("tc", "qdisc", "add", "dev", f"{tag}v{place}", *shape)
            sh(*inside, "tc", "qdisc", "add", "dev", "eth0", *shape)
        yield [["ip", "netns", "exec", name] for name in names]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", f"{tag}b"], check=False, capture_output=True)


def ranks(jobs: Jobs, prefixes: Sequence[Sequence[str]], host: str, link: str) -> dict[str, Any]:
    """Start one rank behind each prefix, and read what rank 0 wrote."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with tempfile.TemporaryDirectory() as place:
        asked, told = Path(place) / "jobs.json", Path(place) / "told.json"
        asked.write_text(json.dumps(jobs))
        common = {**os.environ, "WORLD_SIZE": str(len(prefixes)), "MASTER_ADDR": host}
        common |= {"MASTER_PORT": port, "GLOO_SOCKET_IFNAME": link, "OMP_NUM_THREADS": "1"}
        words = [sys.executable, "-m", "benchmarks.ist_rank", str(asked), str(told)]
        crew = [
            subprocess.Popen([*prefix, *words], env={**common, "RANK": str(rank)})
            for rank, prefix in enumerate(prefixes)
        ]
        try:
            codes = [process.wait(900) for process in crew]
        finally:
            for process in crew:
                process.kill()
        if any(codes):
            raise RuntimeError(f"ranks ended with {codes}")
        return json.loads(told.read_text())


def timings(book: Book, rate: str, width: int) -> dict[str, Any]:
    """Seconds of a round of every method on a shaped link."""
    found = {}
    for name, job in grid(width).items():

        def take(job: Mapping[str, Any] = job) -> Any:
            with network(N, rate) as prefixes:
                return ranks({"it": {**job, "kind": "timed"}}, prefixes, "10.77.0.1", "eth0")["it"]

        found[name] = book.measure(f"{name}, width {width}, {rate}: round", take)
    return found


def planned(width: int) -> dict[str, Any]:
    """What ``moiety plan --layout ring`` says of the same rounds: seconds, and its choice."""
    told: dict[str, Any] = {}
    for rate, mbit in MBIT.items():
        setting, found = Setting(Link(mbit, LATENCY_MS), "ring"), {}
        for name, job in grid(width).items():
            plan = outline(described({**job}).record, 0)
            found[name] = forecast(job["method"], plan, setting)
        few = {one.method: one for one in found.values()}
        choice = decide(few, few["ist"].effort.steps, statistical(N))
        told[rate] = {"choice": choice.method, "reason": choice.reason}
        told[rate]["round_s"] = {name: one.round_s for name, one in found.items()}
    return told


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
        order = sorted(told, key=lambda name: told[name])
        text = "; ".join(
            f"{name}: {told[name]:.1f} s ({steps[name]} steps; a round"
            f" {found[rate][name]['seconds']:.2f} s, {found[rate][name]['bytes'] / 1e6:.2f} MB"
            f" sent, planned {plan[rate]['round_s'][name]:.2f} s)"
            for name in order
        )
        gated = rate == "100mbit" and width == WIDE
        ok = order[0].startswith("ist") and math.isfinite(told[order[0]]) if gated else None
        text += f". Plan chooses {plan[rate]['choice']}"
        name = f"seconds to .83 (rounds counted x a round measured), {RATES[rate]}, width {width}"
        gates.append(Gate(name, "IST first" if gated else "-", text, ok))
    return gates


def count(width: int) -> int:
    """Parameters of the three layers."""
    return 784 * width + width * width + 10 * width + 4 * width


def largest(book: Book, n: int, wide: int, whole: int, rounds: int) -> list[Gate]:
    """The widest network under one limit: data parallel's, and that of IST in blocks."""
    jobs = {"ist": {"kind": "widest", "width": wide, "every": 10, "rounds": rounds}}
    lo = [[] for _ in range(n)]
    found = book.measure(f"blocks of {wide}", lambda: ranks(jobs, lo, "127.0.0.1", "lo"))["ist"]
    some = {
        str(width): {"kind": "parallel", "width": width} for width in (whole, whole + whole // 16)
    }
    fits = book.measure(f"wholes of {whole}", lambda: ranks(some, lo[:1], "127.0.0.1", "lo"))
    held, over = (fits[key]["peak"] for key in some)
    ratio, mb = count(wide) / count(whole), 1 << 20
    inner = wide // n
    part = 784 * inner + inner * inner + 14 * inner
    formula = 4 * (2 * part + count(wide) / n + 64 * (784 + 6 * inner + 10))
    losses = found["losses"]
    sent = rounds * 2 * (n - 1) * 4 * part // n
    good = found["peak"] <= LIMIT and held <= LIMIT < over and ratio >= 8
    return [
        Gate(f"parameters, IST in blocks (n = {n}) over data parallel, under {LIMIT / mb:.0f} MB",
             "at least 8", f"{ratio:.1f} (widths {wide} and {whole}; peaks {found['peak'] / mb:.1f}"
             f" and {held / mb:.1f} MB; data parallel at {list(some)[1]}: {over / mb:.1f} MB)",
             good),
        Gate("it learns", "loss falls, accuracy above .3",
             f"loss {losses[0]:.3f} to {losses[-1]:.3f}, accuracy {found['accuracy']:.3f}",
             losses[-1] < losses[0] and found["accuracy"] > 0.3),
        Gate("peak tensor bytes of a rank over formula 9.3", "within 15 %",
             f"{found['peak'] / formula:.3f}", abs(found["peak"] / formula - 1) <= 0.15),
        Gate("bytes sent by a rank, formula 9.4", f"{sent}", f"{found['sent']}",
             found["sent"] == sent),
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    told = options(__doc__ or "", arguments)
    book = Book.open(told.json)
    if told.quick:
        gates = largest(book, 4, 1024, 512, 2)[3:]
        gates += [not_run(name, "-", "needs a full run") for name in ("links", "widest network")]
    else:
        gates = [
            *links(book, WIDE, ["100mbit"]),
            *largest(book, 8, 7808, 2016, 8),
            *links(book, WIDE, ["1gbit"])[1:],
            *links(book, 512, list(RATES)),
        ]
    return report(gates, book, told, machine())


if __name__ == "__main__":
    sys.exit(main())
