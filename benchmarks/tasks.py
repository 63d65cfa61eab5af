"""Tasks of every kind through the same methods, beside the same network in a plain loop.

    python -m benchmarks.tasks [--quick] [--check] [--json FILE]

Numbers (California housing), classes and sets of labels of texts (20 Newsgroups), tokens
(Shakespeare by role) and images by writer (FEMNIST), from the folder that MOIETY_DATA names. Four
workers whose rows are alike make as many steps each as the plain loop, with its rate, batch and
schedule; FedAvg there must come within 1 % of the loop's metric, in the mean over seeds. Owners of
rows (bands of longitude, pairs of newsgroups, roles, writers) make one pass over theirs in each of
as many rounds as the loop makes passes, at twice its rate; nothing is asked there. Figures are kept
as they come, seed by seed, and a run that was cut short goes on where it stopped. A quick run takes
a fifth of the rows, a third of the passes and one seed, and asks nothing.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

from benchmarks.gates import Book, Gate, machine, options, report, shown
from benchmarks.tasks_parts.runs import Figures, Variant, play_plain, play_variant
from benchmarks.tasks_parts.worlds import WORLDS, World

SEEDS = (0, 1, 2)
NEAR = 0.01
"""Share of the plain loop's metric by which FedAvg on rows alike may fall short."""

QUICK_ROWS, QUICK_PASSES = 0.2, 3

VARIANTS = (
    Variant("FedAvg, rows alike", "fedavg", {}, iid=4),
    Variant("IST, rows alike", "ist", {}, iid=4),
    Variant("FedAvg", "fedavg", {}),
    Variant("FedProx", "fedprox", {"mu": 0.01}),
    Variant("DDOME", "ddome", {"experts": 4, "k": 2, "gate_hidden": 16}, common=True),
)

PLAIN = "plain loop"

METRICS: Mapping[str, tuple[str, bool]] = {
    "california": ("rmse", False),
    "newsgroups": ("accuracy", True),
    "topics": ("micro_f1", True),
    "roles": ("perplexity", False),
    "femnist": ("accuracy", True),
}
"""World -> its first metric, and whether more is better."""


@cache
def read_world(name: str, *, quick: bool) -> World:
    """Read a world once."""
    return WORLDS[name](QUICK_ROWS if quick else 1.0)


def take(name: str, line: str, seed: int, *, quick: bool) -> Figures:
    """Measure one figure."""
    world = read_world(name, quick=quick)
    rounds = max(2, world.rounds // (QUICK_PASSES if quick else 1))
    variant = next((one for one in VARIANTS if one.name == line), None)
    if variant is None:
        return play_plain(world, rounds, seed)
    return play_variant(world, variant, rounds, seed)


def name_figure(name: str, line: str, seed: int, *, quick: bool = False) -> str:
    """Name a figure of the book."""
    return f"{'quick ' * quick}{name}, {line}, seed {seed}"


def list_takes(*, quick: bool) -> dict[str, Callable[[], Figures]]:
    """List what is measured, all of a seed before the next."""
    lines = (PLAIN, *(variant.name for variant in VARIANTS))
    return {
        name_figure(name, line, seed, quick=quick): partial(take, name, line, seed, quick=quick)
        for seed in (SEEDS[:1] if quick else SEEDS)
        for name in METRICS
        for line in lines
    }


def known(
    book: Book, name: str, line: str, seeds: Sequence[int], *, quick: bool = False
) -> list[Figures]:
    """Give the figures of a line that were measured."""
    keys = [name_figure(name, line, seed, quick=quick) for seed in seeds]
    return [book.figures[key] for key in keys if key in book.figures]


def judge(name: str, metric: str, found: Mapping[str, Sequence[Figures]], *, higher: bool) -> Gate:
    """Ask that FedAvg on rows alike be near the plain loop: the mean over seeds."""
    loop, ours = (
        statistics.fmean(one[metric] for one in found[line]) for line in (PLAIN, VARIANTS[0].name)
    )
    worse = (loop - ours if higher else ours - loop) / loop
    measured = f"{ours:.4g}, the loop {loop:.4g}: {100 * worse:+.2f} % worse"
    asked = f"at most {100 * NEAR:.0f} % worse"
    return Gate(f"{name}: {metric} of FedAvg on rows alike", asked, measured, worse <= NEAR)


def judge_all(book: Book, *, quick: bool) -> list[Gate]:
    """Judge what is there; a quick run asks nothing."""
    gates: list[Gate] = []
    for name, (metric, higher) in METRICS.items():
        lines = (PLAIN, *(variant.name for variant in VARIANTS))
        found = {line: known(book, name, line, SEEDS, quick=quick) for line in lines}
        if found[PLAIN] and found[VARIANTS[0].name] and not quick:
            gates.append(judge(name, metric, found, higher=higher))
        gates += [
            shown(f"{name}: {metric} of {line}", [one[metric] for one in figures])
            for line, figures in found.items()
            if figures
        ]
    return gates


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, judge and report."""
    told = options(__doc__ or "", arguments)
    book = Book.open(told.json, closed=told.kept)
    book.several(list_takes(quick=told.quick))
    return report(judge_all(book, quick=told.quick), book, told, machine())


if __name__ == "__main__":
    sys.exit(main())
