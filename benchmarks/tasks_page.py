"""Write what was measured of tasks into its page: ``python -m benchmarks.tasks_page``.

Reads ``docs/results/tasks.json``, which ``python -m benchmarks.tasks --json`` writes.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from benchmarks.contest import ROOT
from benchmarks.gates import Book
from benchmarks.tasks import METRICS, PLAIN, VARIANTS, judge, known, list_lines, read_rate
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
        return f"| {name} | {line} | {metric} | not run | | | | |"
    whole, own = (write_spread([one[key] for one in figures]) for key in (metric, "own"))
    rate = read_rate(name, line, figures[0]["scale"])
    sent = [one["bytes"] for one in figures if "bytes" in one]
    kilobytes = f"{statistics.fmean(sent) / 1000:,.1f}" if sent else ""
    return (
        f"| {name} | {line} | {metric} | {whole} | {own} | {len(figures)} | {rate} | {kilobytes} |"
    )


def write_table(found: Mapping[str, Mapping[str, Sequence[Figures]]]) -> str:
    """Write all lines of all worlds."""
    head = "| data | line | metric | all test rows | mean of owners | seeds | rate | kB |"
    lines = [head, "| --- " * 8 + "|"]
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


def write_ranking(found: Mapping[str, Mapping[str, Sequence[Figures]]]) -> str:
    """Rank the lines of each world by the mean over owners, the best first."""
    lines = ["| data | best first, by the mean of owners |", "| --- | --- |"]
    for name, (_, higher) in METRICS.items():
        means = {
            line: statistics.fmean(one["own"] for one in figures)
            for line, figures in found[name].items()
            if figures
        }
        order = sorted(means, key=lambda line: -means[line] if higher else means[line])
        told = "; ".join(f"{line} {means[line]:.4g}" for line in order) or "not run"
        lines.append(f"| {name} | {told} |")
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
    found = {name: {line: known(book, name, line) for line in list_lines(name)} for name in METRICS}
    text = fill(PAGE.read_text(), "lines", write_table(found))
    text = fill(text, "ranking", write_ranking(found))
    PAGE.write_text(fill(text, "gates", write_gates(found)))


if __name__ == "__main__":
    main()
