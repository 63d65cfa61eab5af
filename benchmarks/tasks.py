"""Tasks of every kind through the same methods, beside the same network in a plain loop.

    python -m benchmarks.tasks [--quick] [--check] [--json FILE]

Numbers (California housing), classes and sets of labels of texts (20 Newsgroups), tokens
(Shakespeare by role) and images by writer (FEMNIST), from the folder that MOIETY_DATA names, cut
so that all of it is minutes of one core. Four workers whose rows are alike make as many steps each
as the plain loop, at its rate, and their momentum travels with the model; FedAvg there must come
within 1 % of the loop's metric, in the mean over seeds. Owners of rows (bands of longitude, pairs
of newsgroups, roles, writers) are answered each as its method serves it, and every line is scored
on their test rows. Each line chooses its rate of two by a fifth of the training rows, which it does
not see, under another seed. Simpler models stand beside. Figures are kept as they come, and a
run that was cut short goes on where it stopped. A quick run takes half of the rows, a few rounds,
one seed and one rate, and asks nothing.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial

import torch

from benchmarks.gates import Book, Gate, machine, options, report, shown
from benchmarks.tasks_parts.nets import draw
from benchmarks.tasks_parts.plain import fit_alone, train_plain
from benchmarks.tasks_parts.runs import (
    Figures,
    Variant,
    play_variant,
    score_owners,
    train_common,
)
from benchmarks.tasks_parts.worlds import WORLDS, World, select
from moiety.core.errors import RunError

SEEDS = (0, 1, 2)
CHOOSING = 100
"""The seed of runs that choose a rate."""

SCALES, OWNER_SCALES = (1.0, 4.0), (4.0, 16.0)
"""Multiples of a world's rate, of which each line chooses one; those of owners, who make few steps
in a round."""

NEAR = 0.01
"""Share of the plain loop's metric by which FedAvg on rows alike may fall short."""

QUICK_ROWS, QUICK_ROUNDS = 0.5, 4

VARIANTS = (
    Variant("FedAvg, rows alike", "fedavg", {}, iid=4),
    Variant("IST, rows alike", "ist", {}, iid=4),
    Variant("FedAvg", "fedavg", {}),
    Variant("FedProx", "fedprox", {"mu": 0.01}),
    Variant("DDOME", "ddome", {"k": 2, "gate_hidden": 16}, experts=4),
)

PLAIN, ALONE, COMMON = "plain loop", "each owner alone", "common expert alone"

CHOSEN: Mapping[str, str] = {
    PLAIN: PLAIN,
    ALONE: ALONE,
    "FedAvg, rows alike": PLAIN,
    "IST, rows alike": "IST, rows alike",
    "FedAvg": "FedAvg",
    "FedProx": "FedAvg",
    "DDOME": "DDOME",
}
"""Line -> the line by which its rate is chosen; other lines have none, or the world's."""

METRICS: Mapping[str, tuple[str, bool]] = {
    "california": ("rmse", False),
    "newsgroups": ("accuracy", True),
    "topics": ("micro_f1", True),
    "roles": ("perplexity", False),
    "femnist": ("accuracy", True),
}
"""World -> its first metric, and whether more is better."""

RATES: Mapping[str, float] = {
    "california": 0.05, "newsgroups": 0.1, "topics": 2.0, "roles": 0.5, "femnist": 0.1,
}  # fmt: skip
"""World -> the smaller of its learning rates."""

SIMPLE: Mapping[str, tuple[str, ...]] = {
    "california": ("linear model", "boosted trees"),
    "newsgroups": ("linear model",),
    "topics": ("linear model",),
    "roles": ("counts of pairs",),
    "femnist": ("linear model",),
}
"""World -> its plain models of other kinds, in which nothing is drawn."""

COMPARED = (PLAIN, *(variant.name for variant in VARIANTS[:2]))
"""Lines that know no owners."""

SERVED = (ALONE, COMMON, *(variant.name for variant in VARIANTS[2:]))
"""Lines of owners."""


def list_lines(name: str) -> tuple[str, ...]:
    """List the lines of a world."""
    return (*COMPARED, *SIMPLE[name], *SERVED)


def read_rate(name: str, line: str, scale: float) -> str:
    """Say at which rate a line was trained; nothing of lines without one.

    >>> read_rate("topics", "FedAvg", 0.3), read_rate("topics", "linear model", 1.0)
    ('0.3', '')
    """
    return "" if line in SIMPLE[name] else f"{scale * RATES[name]:g}"


@cache
def read_world(name: str, *, quick: bool) -> World:
    """Read a world once."""
    world = replace(WORLDS[name](QUICK_ROWS if quick else 1.0), lr=RATES[name])
    return replace(world, rounds=QUICK_ROUNDS, owner_rounds=QUICK_ROUNDS) if quick else world


def hold_out(world: World) -> World:
    """Put a fifth of the training rows in the place of the test rows."""
    last = torch.arange(len(world.owners)) % 5 == 4
    return replace(
        world,
        train=select(world.train, ~last),
        test=select(world.train, last),
        owners=world.owners[~last],
        test_owners=world.owners[last],
    )


def play_line(world: World, line: str, seed: int, scale: float) -> Figures:
    """Measure one line."""
    for variant in VARIANTS:
        if variant.name == line:
            return play_variant(world, variant, seed, scale)
    answer = world.objective.answer
    if line in world.simple:
        known = world.simple[line](world.train)
        return score_owners(world, lambda _, rows: known(rows["x"]))
    if line == ALONE:
        nets = fit_alone(world, lambda: draw(world.net(), seed), seed, scale)
        return score_owners(world, lambda owner, rows: answer(nets[owner](rows["x"])))
    net = train_common(world, seed) if line == COMMON else draw(world.net(), seed)
    if line == PLAIN:
        train_plain(net, world, seed, scale)
    return score_owners(world, lambda _, rows: answer(net(rows["x"])))


def name_figure(name: str, line: str, seed: int, *, quick: bool = False) -> str:
    """Name a figure of the book."""
    return f"{'quick ' * quick}{name}, {line}, seed {seed}"


def choose_scale(book: Book, name: str, line: str) -> float:
    """Choose the multiple of the rate with which a line is best on rows held out."""
    metric, higher = METRICS[name]

    def try_scale(scale: float) -> float | None:
        held = hold_out(read_world(name, quick=False))
        try:
            found = play_line(held, line, CHOOSING, scale)[metric]
        except RunError:  # it diverged
            return None
        return found if math.isfinite(found) else None

    found = {
        scale: book.measure(
            f"choice of a rate: {name}, {line}, x {scale:g}", partial(try_scale, scale)
        )
        for scale in (OWNER_SCALES if line in ("FedAvg", "DDOME") else SCALES)
    }
    sign = 1 if higher else -1
    worst = -math.inf
    return max(found, key=lambda s: (worst if found[s] is None else sign * found[s], -s))


def take(book: Book, name: str, line: str, seed: int, *, quick: bool) -> Figures:
    """Measure one figure, with the rate that its line chose."""
    scale = 1.0 if quick or line not in CHOSEN else choose_scale(book, name, CHOSEN[line])
    return {**play_line(read_world(name, quick=quick), line, seed, scale), "scale": scale}


def list_seeds(line: str, *, quick: bool) -> Sequence[int]:
    """List the seeds of a line; one where nothing is drawn."""
    drawn = not any(line in lines for lines in SIMPLE.values())
    return SEEDS if drawn and not quick else SEEDS[:1]


def list_takes(book: Book, *, quick: bool) -> dict[str, Callable[[], Figures]]:
    """List what is measured."""
    return {
        name_figure(name, line, seed, quick=quick): partial(
            take, book, name, line, seed, quick=quick
        )
        for name in METRICS
        for line in list_lines(name)
        for seed in list_seeds(line, quick=quick)
    }


def known(book: Book, name: str, line: str, *, quick: bool = False) -> list[Figures]:
    """Give the figures of a line that were measured."""
    keys = [name_figure(name, line, seed, quick=quick) for seed in list_seeds(line, quick=quick)]
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
        found = {line: known(book, name, line, quick=quick) for line in list_lines(name)}
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
    torch.set_num_threads(1)
    told = options(__doc__ or "", arguments)
    book = Book.open(told.json, closed=told.kept)
    book.several(list_takes(book, quick=told.quick))
    return report(judge_all(book, quick=told.quick), book, told, machine())


if __name__ == "__main__":
    sys.exit(main())
