"""Write what was measured of tasks into its page: ``python -m benchmarks.tasks_page``.

Reads ``docs/results/tasks.json``, which ``python -m benchmarks.tasks --json`` writes.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from benchmarks.contest import ROOT
from benchmarks.gates import Book
from benchmarks.tasks import METRICS, PLAIN, SEEDS, VARIANTS, judge, known
from benchmarks.tasks_parts.runs import Figures

RESULTS = ROOT / "docs" / "results"
PAGE = RESULTS / "tasks.md"


def write_spread(values: Sequence[float]) -> str:
    """Write a mean and, of several, the sample standard deviation.

    >>> write_spread([1.0]), write_spread([1.0, 3.0])
    ('1', '2 ± 1.4')
    """
    spread = f" ± {statistics.stdev(values):.2g}" if values[1:] else ""
    return f"{statistics.fmean(values):.4g}{spread}"


def write_line(name: str, line: str, metric: str, figures: Sequence[Figures]) -> str:
    """Write a line of the table."""
    if not figures:
        return f"| {name} | {line} | {metric} | not run | | | |"
    workers = figures[0].get("workers", 1)
    kilobytes = statistics.fmean(one["bytes"] for one in figures) / 1000
    told = write_spread([one[metric] for one in figures])
    return (
        f"| {name} | {line} | {metric} | {told} | {len(figures)} | {workers} | {kilobytes:,.1f} |"
    )


def write_table(found: Mapping[str, Mapping[str, Sequence[Figures]]]) -> str:
    """Write all lines of all worlds, then what is asked of FedAvg on rows alike."""
    head = "| data | line | metric | on all test rows | seeds | workers | kB a worker and round |"
    lines = [head, "| --- " * 7 + "|"]
    for name, (metric, _) in METRICS.items():
        lines += [write_line(name, line, metric, found[name][line]) for line in found[name]]
    return "\n".join(lines)


def write_gates(found: Mapping[str, Mapping[str, Sequence[Figures]]]) -> str:
    """Write whether FedAvg on rows alike is near the loop."""
    lines = ["| gate | asked | measured | reached |", "| --- " * 4 + "|"]
    for name, (metric, higher) in METRICS.items():
        if found[name][PLAIN] and found[name][VARIANTS[0].name]:
            gate = judge(name, metric, found[name], higher=higher)
            verdict = "yes" if gate.ok else "**no**"
            lines.append(f"| {gate.name} | {gate.asked} | {gate.measured} | {verdict} |")
    return "\n".join(lines)


def fill(text: str, mark: str, table: str) -> str:
    """Put a table between its marks."""
    head, begun, rest = text.partition(f"<!-- {mark} -->")
    _, ended, tail = rest.partition(f"<!-- end {mark} -->")
    assert ended, mark  # and so begun
    return f"{head}{begun}\n{table}\n{ended}{tail}"


def main() -> None:
    """Fill the page."""
    book = Book.open(RESULTS / "tasks.json", closed=True)
    found = {
        name: {
            line: known(book, name, line, SEEDS) for line in (PLAIN, *(v.name for v in VARIANTS))
        }
        for name in METRICS
    }
    text = fill(PAGE.read_text(), "lines", write_table(found))
    PAGE.write_text(fill(text, "gates", write_gates(found)))


if __name__ == "__main__":
    main()
