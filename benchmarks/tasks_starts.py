"""Why a mixture may be worse than its own common expert: where it begins, its rate, its answers.

``python -m benchmarks.tasks_starts [--json FILE] [--quick]``. On two worlds of
``benchmarks.tasks`` in which DDOME ended below its common expert, each federated line is trained
anew: at two rates, and from the common expert in the place of first values. A mixture is scored as
it is served (``top1``, two experts), by mixing those two (``soft``), and by mixing all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from benchmarks.gates import Book, Gate, machine, options, report, shown
from benchmarks.tasks import METRICS, read_world
from benchmarks.tasks_parts.runs import (
    Figures,
    Variant,
    score_method,
    score_owners,
    train_common,
    train_variant,
)
from benchmarks.tasks_parts.worlds import World
from moiety.serve.choose import Routed

SEEDS = (0, 1, 2)
NAMES = ("femnist", "newsgroups")
COMMON = "common expert alone"


@dataclass(frozen=True)
class Line:
    """A line of the study: a variant, and how many times the world's rate."""

    variant: Variant
    scale: float


FEDAVG = Variant("FedAvg", "fedavg", {})
FROM = Variant("FedAvg from the common expert", "fedavg", {}, from_common=True)
MIXTURE = {"k": 2, "gate_hidden": 16}
DDOME = Variant("DDOME", "ddome", MIXTURE, experts=4)
BEGUN = replace(
    DDOME, name="DDOME from the common expert", options={**MIXTURE, "from_common": True}
)

LINES = {
    f"{variant.name}, rate x {scale:g}": Line(variant, scale)
    for variant, scale in (
        (FEDAVG, 16.0), (DDOME, 16.0), (BEGUN, 16.0), (DDOME, 64.0), (FROM, 16.0), (FEDAVG, 64.0),
    )
}  # fmt: skip


def play_line(world: World, line: Line, seed: int) -> Figures:
    """Measure a line: the metric as a mean over owners, for each way to answer."""
    method, params, _ = train_variant(world, line.variant, seed, line.scale)
    found = {"served": score_method(world, method, params)["own"]}
    if isinstance(method.serve, Routed):
        soft = replace(method.serve, mode="soft")
        ways = {"two mixed": soft, "all mixed": replace(soft, k=None)}
        for name, serve in ways.items():
            found[name] = score_method(world, replace(method, serve=serve), params)["own"]
    return found


def play_common(world: World, seed: int) -> Figures:
    """Measure the common expert."""
    net, answer = train_common(world, seed), world.objective.answer
    return {"served": score_owners(world, lambda _, rows: answer(net(rows["x"])))["own"]}


def list_takes(*, quick: bool) -> dict[str, Callable[[], Figures]]:
    """List what is measured, all lines of a seed before the next."""
    takes: dict[str, Callable[[], Figures]] = {}
    for seed in SEEDS[: 1 if quick else None]:
        for name in NAMES:
            world = read_world(name, quick=quick)
            key = f"{'quick ' * quick}{name}, {{}}, seed {seed}"
            takes[key.format(COMMON)] = partial(play_common, world, seed)
            for line, what in LINES.items():
                takes[key.format(line)] = partial(play_line, world, what, seed)
    return takes


def show_all(book: Book, *, quick: bool) -> list[Gate]:
    """Show what is there, of which nothing is asked."""
    gates: list[Gate] = []
    for name in NAMES:
        for line in (COMMON, *LINES):
            keys = [f"{'quick ' * quick}{name}, {line}, seed {seed}" for seed in SEEDS]
            known = [book.figures[key] for key in keys if key in book.figures]
            for way in known[0] if known else ():
                title = f"{name}: {METRICS[name][0]}, {line}, {way}"
                gates.append(shown(title, [one[way] for one in known]))
    return gates


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report."""
    torch.set_num_threads(1)
    told = options(__doc__ or "", arguments)
    book = Book.open(told.json, closed=told.kept)
    book.several(list_takes(quick=told.quick))
    return report(show_all(book, quick=told.quick), book, told, machine())


if __name__ == "__main__":
    sys.exit(main())
