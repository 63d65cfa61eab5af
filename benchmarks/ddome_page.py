"""Write what was measured into the documentation: ``python -m benchmarks.ddome_page``.

Reads ``docs/results/ddome.json``, which ``python -m benchmarks.ddome --json`` writes, fills the
tables of two pages between their marks, and draws the map. What was not measured is shown as such.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.contest import ROOT
from benchmarks.ddome import judged, mixed_answer, rows
from benchmarks.ddome_trials import (
    CLASSES,
    ELSEWHERE,
    GATED,
    MORE,
    QUICKSTART,
    SHOWN,
    WIDTHS,
    final,
    known,
    on_map,
    score,
)
from benchmarks.gates import Book, Gate, table
from benchmarks.trial import Figures, Trial

RESULTS = ROOT / "docs" / "results"
PAGES = (RESULTS / "ddome.md", ROOT / "docs" / "methods" / "ddome.md")
PICTURE = ROOT / "docs" / "methods" / "ddome-map.svg"


def with_spread(values: Sequence[float]) -> str:
    """Write a mean and the sample standard deviation over seeds.

    >>> with_spread([1.0, 3.0])
    '2.0 ± 1.4'
    """
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines))


def accuracies(book: Book, trials: Mapping[str, Trial], of: Callable[[Figures], float]) -> str:
    """Write a line a trial: accuracies in percent, seconds, and the command."""
    lines = []
    for name, trial in trials.items():
        found = known(book, name)
        told = ["not run"] * 4
        if found:
            seen = [list(one["seen"].values())[-1] for one in found]
            told = [with_spread([of(one) for one in found]), with_spread(seen),
                    with_spread([one["worst"] for one in found]),
                    f"{statistics.mean([one['seconds'] for one in found]):.0f}"]  # fmt: skip
        lines.append([trial.name, *told, f"`{trial.command}`"])
    return markdown(["what", "unseen", "seen", "worst", "seconds", "command"], lines)


def in_cell(book: Book, width: int, classes: int, method: str) -> list[Figures]:
    """Look up a cell of the map."""
    return known(book, on_map(width, classes, method))


def margins(book: Book, width: int, classes: int) -> list[float]:
    """Give by how many points DDOME leads FedAvg in a cell of the map, a number a seed."""
    ours, theirs = (in_cell(book, width, classes, method) for method in ("ddome", "fedavg"))
    return [final(a) - final(b) for a, b in zip(ours, theirs, strict=False)]


def cell(values: Sequence[float]) -> str:
    """Write a margin with its spread; bold where it is beyond the spread."""
    if not values:
        return "not run"
    mean, doubt = statistics.mean(values), statistics.stdev(values)
    said = f"{mean:+.1f} ± {doubt:.1f}"
    return f"**{said}**" if abs(mean) > doubt else said


def atlas(book: Book) -> str:
    """Write the map: a line a width, a column a number of classes; both accuracies beside."""
    lines = []
    for width in WIDTHS:
        line = [str(width)]
        for classes in CLASSES:
            line.append(cell(margins(book, width, classes)))
            for method in ("ddome", "fedavg"):
                found = in_cell(book, width, classes, method)
                line.append(with_spread([final(one) for one in found]) if found else "not run")
        lines.append(line)
    head = ["hidden units"]
    for classes in CLASSES:
        head += [f"{classes} classes: DDOME - FedAvg", "DDOME", "FedAvg"]
    return markdown(head, lines)


def draw(book: Book, path: Path) -> None:
    """Draw the map: margin by width, a line for each number of classes."""
    import matplotlib as mpl  # an extra

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "moiety"  # the same figures, the same file
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    axes.axhline(0, color="black", linewidth=1, label="FedAvg")
    for classes, mark in zip(CLASSES, "os", strict=True):
        at = [width for width in WIDTHS if margins(book, width, classes)]
        found = [margins(book, width, classes) for width in at]
        mean = [statistics.mean(one) for one in found]
        std = [statistics.stdev(one) for one in found]
        axes.errorbar(at, mean, std, marker=mark, capsize=3, label=f"{classes} classes a worker")
    axes.set_xscale("log", base=2)
    axes.set_xticks(WIDTHS, [str(width) for width in WIDTHS])
    axes.set_xlabel("hidden units of an expert, and of FedAvg's model")
    axes.set_ylabel("DDOME - FedAvg, points\n(unseen workers)")
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def fill(text: str, tables: Mapping[str, str]) -> str:
    r"""Put tables between their marks.

    >>> print(fill("a\n<!-- x -->\n<!-- end x -->\nb", {"x": "new"}))
    a
    <!-- x -->
    new
    <!-- end x -->
    b

    Raises:
        ValueError: if a mark has no end.
    """
    for name, new in tables.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end {name} -->"
        if begin in text:
            before, _, rest = text.partition(begin)
            if end not in rest:
                raise ValueError(f"no {end!r} behind {begin!r}; write it into the page")
            text = f"{before}{begin}{new}\n{end}{rest.partition(end)[2]}"
    return text


def tables(book: Book, gates: Sequence[Gate]) -> dict[str, str]:
    """Write all tables by the name of their mark."""
    return {
        "gates": table(gates),
        "modes": accuracies(book, {**GATED, **SHOWN}, score),
        "quickstart": accuracies(book, QUICKSTART, final),
        "elsewhere": accuracies(book, ELSEWHERE, score),
        "more": accuracies(book, MORE, final),
        "map": atlas(book),
    }


def main() -> None:
    """Fill both pages and draw."""
    book = Book.open(RESULTS / "ddome.json")
    gates = [*judged(book), mixed_answer(book)]
    book.write([*gates, *rows(book)])
    written = tables(book, gates)
    for page in PAGES:
        page.write_text(fill(page.read_text(), written))
    draw(book, PICTURE)


if __name__ == "__main__":
    main()
