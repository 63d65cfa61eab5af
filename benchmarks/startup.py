"""Seconds until the command line answers, beyond a bare ``import torch``.

    python -m benchmarks.startup [--quick] [--check] [--json FILE]

Each command alternates with the bare import, in processes of their own; the best of each counts.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial

from benchmarks.gates import Book, Gate, at_most, machine, options, report

COMMANDS = {"list": (["list"], 0.3), "run --help": (["run", "quickstart", "--help"], 1.0)}
"""Name -> words behind ``moiety``, and the seconds asked."""


def time_process(words: Sequence[str]) -> float:
    """Time a process of Python, in seconds."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    return time.perf_counter() - begun


def measure_start(words: Sequence[str], takes: int) -> float:
    """Measure how much longer than a bare import of torch a command takes, in seconds."""
    pairs = [
        (time_process(["-c", "import torch"]), time_process(["-m", "moiety", *words]))
        for _ in range(takes)
    ]
    return min(command for _, command in pairs) - min(bare for bare, _ in pairs)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure."""
    asked = options(__doc__ or "", arguments)
    book = Book.open(asked.json, closed=asked.kept)
    takes = 2 if asked.quick else 5
    gates: list[Gate] = []
    for name, (words, ceiling) in COMMANDS.items():
        found = book.measure(f"{name}, best of {takes}", partial(measure_start, words, takes))
        gates.append(at_most(f"moiety {name}, beyond import torch", ceiling, [found], " s"))
    return report(gates, book, asked, machine())


if __name__ == "__main__":
    sys.exit(main())
