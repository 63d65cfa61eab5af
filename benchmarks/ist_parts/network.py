"""Ranks in network namespaces of their own, joined by links that ``tc tbf`` shapes both ways."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Jobs = Mapping[str, Mapping[str, Any]]


def sh(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@contextlib.contextmanager
def network(n: int, rate: str, burst: str = "256kb") -> Iterator[list[list[str]]]:
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
            shape = ["root", "tbf", "rate", rate, "burst", burst, "latency", "300ms"]
            sh("tc", "qdisc", "add", "dev", f"{tag}v{place}", *shape)
            sh(*inside, "tc", "qdisc", "add", "dev", "eth0", *shape)
        yield [["ip", "netns", "exec", name] for name in names]
    finally:
        for place, name in enumerate(names):  # links first: a namespace takes its time to go
            undo = (["ip", "link", "del", f"{tag}v{place}"], ["ip", "netns", "del", name])
            for words in undo:
                subprocess.run(words, check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", f"{tag}b"], check=False, capture_output=True)


def ranks(
    jobs: Jobs,
    prefixes: Sequence[Sequence[str]],
    host: str,
    link: str,
    module: str = "benchmarks.ist_rank",
) -> dict[str, Any]:
    """Start one rank behind each prefix, and read what rank 0 wrote."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with tempfile.TemporaryDirectory() as place:
        asked, told = Path(place) / "jobs.json", Path(place) / "told.json"
        asked.write_text(json.dumps(jobs))
        common = {**os.environ, "WORLD_SIZE": str(len(prefixes)), "MASTER_ADDR": host}
        common |= {"MASTER_PORT": port, "GLOO_SOCKET_IFNAME": link, "OMP_NUM_THREADS": "1"}
        words = [sys.executable, "-m", module, str(asked), str(told)]
        processes = [
            subprocess.Popen([*prefix, *words], env={**common, "RANK": str(rank)})
            for rank, prefix in enumerate(prefixes)
        ]
        try:
            codes = [process.wait(900) for process in processes]
        finally:
            for process in processes:
                process.kill()
        if any(codes):
            raise RuntimeError(f"ranks ended with {codes}")
        return json.loads(told.read_text())
