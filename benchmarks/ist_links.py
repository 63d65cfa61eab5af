"""Independent subnets over slow links, and the widest network that fits.

    python -m benchmarks.ist_links [--quick] [--check] [--json FILE]

Four ranks, each in a network namespace of its own, joined by a bridge whose links ``tc tbf``
shapes both ways (needs root, ip and tc; otherwise said, and not run). Seconds to accuracy .83 on
Fashion-MNIST are rounds x seconds of a round: the rounds come from a play of the same run in one
process (a link changes no number), the seconds from rounds played on the shaped link. Evaluation
is on nobody's clock. Ranks share the cores, so seconds of computing are those of a crowded machine.
"""

from __future__ import annotations

import contextlib
import json
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
from benchmarks.ist import TARGET, played, reached, trial

N, RATES = 4, {"100mbit": "100 Mbit/s", "1gbit": "1 Gbit/s"}
LIMIT = 48 << 20
"""Bytes of tensors that a rank may hold at once, in the search for the widest network."""

Jobs = Mapping[str, Mapping[str, Any]]


def grid(width: int) -> list[tuple[str, int, int]]:
    """Method, local steps a round, and steps at most: the best H of local SGD is looked for."""
    ist = 20 if width < 1000 else 40
    return [
        ("ist", ist, 600), ("local_sgd", 20, 240), ("local_sgd", 40, 240),
        ("data_parallel", 1, 240), ("diloco", 20, 240),
    ]  # fmt: skip


def steps_to(book: Book, method: str, width: int, every: int, most: int) -> int | None:
    """Local steps to the target, looked for every 20 steps or every round."""
    n, name = (1, "local_sgd") if method == "one" else (N, method)
    extra: dict[str, Any] = {"lr": 0.001} if method == "diloco" else {}
    what = trial(name, n, (width, width), steps=most, every=every, look=max(20, every))
    if extra:
        what = type(what)(what.name, name, what.recipe, {
            **what.changes, "local": {**what.changes["local"], **extra}})  # fmt: skip
    found = book.measure(f"{method} {width} H={every}, steps", lambda: played(what, 0))
    return reached(found, TARGET)


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


def timings(rate: str, widths: Sequence[int]) -> dict[str, Any]:
    """Seconds of a round of every method on a shaped link."""
    jobs = {
        f"{method} {width} H={every}": {
            "kind": "timed", "method": method, "hidden": [width, width], "every": every,
            "rounds": 3,
        }
        for width in widths
        for method, every, _ in grid(width)
    }  # fmt: skip
    with network(N, rate) as prefixes:
        return ranks(jobs, prefixes, "10.77.0.1", "eth0")


def links(book: Book, widths: Sequence[int]) -> list[Gate]:
    """Seconds to the target, by link and width; IST first at 100 Mbit/s and width 2,048."""
    asked = "IST first at 100 Mbit/s, width 2,048"
    if os.geteuid() or not shutil.which("ip") or not shutil.which("tc"):
        return [not_run("seconds to .83 on shaped links", asked, "needs root, ip and tc")]
    gates = []
    for rate, label in RATES.items():
        found = book.measure(f"rounds at {rate}", lambda rate=rate: timings(rate, widths))
        for width in widths:
            seconds: dict[str, float] = {}
            for method, every, most in grid(width):
                steps = steps_to(book, method, width, every, most)
                one = found[f"{method} {width} H={every}"]
                name = f"{method} (H {every}, {one['seconds']:.2f} s and {one['bytes'] / 1e6:.1f}"
                name += f" MB a round, {steps} steps)"
                seconds[name] = steps / every * one["seconds"] if steps else float("inf")
            order = sorted(seconds, key=lambda name: seconds[name])
            text = "; ".join(f"{name}: {seconds[name]:.0f} s" for name in order)
            gated = rate == "100mbit" and width == 2048
            ok = order[0].startswith("ist") if gated else None
            name = f"seconds to .83, {label}, width {width}"
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
        gates = largest(book, 4, 1024, 512, 2)[2:]
    else:
        gates = largest(book, 8, 7808, 2016, 8) + links(book, (512, 2048))
    return report(gates, book, told, machine())


if __name__ == "__main__":
    sys.exit(main())
