"""Gates: a figure asked, a figure measured, and whether the one reaches the other."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

NOT_RUN = "not run"


@dataclass(frozen=True)
class Gate:
    """One line of a benchmark.

    Args:
        name: what is measured.
        asked: the figure asked, in words.
        measured: the figure measured, in words; or why there is none.
        ok: whether it is reached; None where nothing was asked or nothing measured.
    """

    name: str
    asked: str
    measured: str
    ok: bool | None = None


def spread(values: Sequence[float], unit: str = "") -> str:
    """Write the median of some figures and their range.

    >>> spread([1.0, 3.0, 2.0], "x")
    '2.00x (1.00 to 3.00)'
    """
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.2f}{unit} ({low:.2f} to {high:.2f})"


def percent(values: Sequence[float]) -> str:
    """Write the mean of some shares in percent, and of several their range.

    >>> percent([0.5, 0.7]), percent([0.25])
    ('60.0 (50.0 to 70.0)', '25.0')
    """
    mean, low, high = (100 * one(values) for one in (statistics.fmean, min, max))
    return f"{mean:.1f}" + (f" ({low:.1f} to {high:.1f})" if values[1:] else "")


def at_least(name: str, floor: float, values: Sequence[float], unit: str = "x") -> Gate:
    """Ask that the median reach a floor."""
    good = statistics.median(values) >= floor
    return Gate(name, f"at least {floor:g}{unit}", spread(values, unit), good)


def at_most(name: str, ceiling: float, values: Sequence[float], unit: str = "") -> Gate:
    """Ask that the median stay under a ceiling."""
    good = statistics.median(values) <= ceiling
    return Gate(name, f"at most {ceiling:g}{unit}", spread(values, unit), good)


def shown(name: str, values: Sequence[float], unit: str = "") -> Gate:
    """Show a figure of which nothing is asked."""
    return Gate(name, "-", spread(values, unit))


def not_run(name: str, asked: str, reason: str) -> Gate:
    """Say that something was not measured, and why."""
    return Gate(name, asked, f"{NOT_RUN}: {reason}")


def table(gates: Sequence[Gate]) -> str:
    """Write gates as a Markdown table."""
    verdict = {True: "yes", False: "**no**", None: ""}
    rows = [(gate.name, gate.asked, gate.measured, verdict[gate.ok]) for gate in gates]
    lines = [("gate", "asked", "measured", "reached"), ("---",) * 4, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> dict[str, str]:
    """Describe what was measured on, and when."""
    info = Path("/proc/cpuinfo")
    models = [
        line.split(":", 1)[1].strip()
        for line in (info.read_text().splitlines() if info.exists() else [])
        if line.startswith("model name")
    ]
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cores": str(os.cpu_count()),
        "cpu": models[0] if models else platform.processor(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


@dataclass
class Book:
    """Figures by key, on disk after each, so that a run cut short goes on where it stopped.

    Args:
        path: the JSON file; None keeps nothing.
        figures: what was measured so far.
        closed: whether nothing more is measured.
        days: figure -> the day it was measured.
    """

    path: Path | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    closed: bool = False
    days: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def open(path: Path | None, *, closed: bool = False) -> Book:
        """Open a file, with what is in it; a closed one takes nothing new."""
        if path is None or not path.exists():
            return Book(path, closed=closed)
        told = json.loads(path.read_text())
        return Book(path, told["figures"], closed, told.get("days", {}))

    def facts(self) -> dict[str, str]:
        """Describe the machine, and the days from the first figure to the last."""
        days = sorted({self.days[key] for key in self.figures if key in self.days})
        span = {"date": " to ".join(dict.fromkeys((days[0], days[-1])))} if days else {}
        return {**machine(), **span}

    def several(self, takes: Mapping[str, Callable[[], Any]]) -> list[Any]:
        """Measure some; of a closed book, those that it has.

        >>> Book(None, {"a": 1}, closed=True).several({"a": int, "b": int})
        [1]
        """
        asked = {k: take for k, take in takes.items() if not self.closed or k in self.figures}
        return [self.measure(key, take) for key, take in asked.items()]

    def measure(self, key: str, take: Callable[[], Any]) -> Any:
        """Measure, unless it was measured before.

        Raises:
            ValueError: if nothing more is to be measured and the figure is lacking.
        """
        if key not in self.figures:
            if self.closed:
                raise ValueError(f"{self.path} lacks {key!r}; run without --kept to measure it")
            print(f"measuring {key} ...", file=sys.stderr, flush=True)
            self.figures[key] = take()
            self.days[key] = machine()["date"]
            self.write([])
        return self.figures[key]

    def write(self, gates: Sequence[Gate]) -> None:
        """Write the file whole, or not at all."""
        if self.path is not None:
            days = {key: day for key, day in self.days.items() if key in self.figures}
            told = {"machine": self.facts(), "figures": self.figures, "days": days}
            told["gates"] = [asdict(gate) for gate in gates]
            self.path.parent.mkdir(parents=True, exist_ok=True)
            draft = self.path.with_suffix(".part")
            draft.write_text(json.dumps(told, indent=1) + "\n")
            draft.replace(self.path)


def options(description: str, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a declared subset, under a minute")
    parser.add_argument("--check", action="store_true", help="exit 1 where a gate falls short")
    parser.add_argument(
        "--kept", action="store_true", help="measure nothing more, judge what is kept"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep figures; resume from them")
    return parser.parse_args(arguments)


def report(
    gates: Sequence[Gate], book: Book, told: argparse.Namespace, facts: Mapping[str, str]
) -> int:
    """Print and keep gates.

    Returns:
        The exit code: 1 where a gate is checked and falls short.
    """
    facts = {**facts, "date": book.facts()["date"]}
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    print(table(gates))
    book.write(gates)
    return int(told.check and any(gate.ok is False for gate in gates))
