"""Seconds until the command line answers, beyond a bare ``import torch``.

    python -m benchmarks.startup [--quick] [--check] [--json FILE]

Each command takes turns with the bare import, in processes of their own. What counts is the
processor's time, the median over turns: on a quiet machine it is that of a clock, and other
programs add little to it.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Sequence
from functools import partial

from benchmarks.gates import Book, Gate, at_most, machine, options, report

COMMANDS = {"list": (["list"], 0.3), "run --help": (["run", "quickstart", "--help"], 1.0)}
"""Name -> words behind ``moiety``, and the seconds asked."""


def time_process(words: Sequence[str]) -> float:
    """Time a process of Python, in seconds of the processor, the system's among them."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure_start(words: Sequence[str], takes: int) -> list[float]:
    """Measure how much longer than a bare import of torch a command takes, turn by turn."""
    pairs = [
        (time_process(["-c", "import torch"]), time_process(["-m", "moiety", *words]))
        for _ in range(takes)
    ]
    return [command - bare for bare, command in pairs]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure."""
    asked = options(__doc__ or "", arguments)
    book = Book.open(asked.json, closed=asked.kept)
    takes = 3 if asked.quick else 9
    gates: list[Gate] = []
    for name, (words, ceiling) in COMMANDS.items():
        found = book.measure(f"{name}, {takes} turns", partial(measure_start, words, takes))
        gates.append(at_most(f"moiety {name}, beyond import torch", ceiling, found, " s"))
    return report(gates, book, asked, machine())


if __name__ == "__main__":
    sys.exit(main())
