"""Prompts with a gate beside PEFT's methods on a real language model, records of six skills.

    MOIETY_LM=FOLDER MOIETY_DATA=FOLDER python -m benchmarks.mops [--minutes N] [--check]
        [--places NAMES ...] [--methods NAMES ...] [--json FILE]

The learning rate of every method is chosen on validation records with seed 0; other seeds, pruned
bases and other shares of skills run at that rate. A run goes on with what the file lacks, and
begins nothing after some minutes.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence

import torch

from benchmarks.gates import Book, Gate, at_most, machine, not_run, options, report
from benchmarks.mops_parts.cells import (
    REASON,
    Cell,
    Measuring,
    find_rate,
    judge_reduction,
    list_figures,
    list_tried,
    show_seeds,
)
from benchmarks.mops_parts.central import measure_bare
from benchmarks.mops_parts.cost import COSTS
from benchmarks.mops_parts.federated import METHODS
from benchmarks.mops_parts.places import CENTRAL, PLACES, WORKERS, open_at, open_whole, run_cell
from benchmarks.mops_parts.rivals import RIVALS

SEEDS = (0, 1)
COST = "cost"
DOLLY = f"Dolly, {CENTRAL}"

FEW = {
    CENTRAL: ("prompt tuning", "MoPs", "deep prompts, no gate", "prefix tuning"),
    WORKERS: ("FedPrompt", "MoPs", "MoPs, one expert a worker", "prefix tuning"),
}
"""Methods that are run on pruned bases and on Dolly, one seed."""

SHARED = (
    "FedPrompt", "MoPs", "MoPs, one expert a worker", "MoPs, two experts a worker",
    "prefix tuning", "deep prompts, no gate", "deep prompts, each worker alone",
)  # fmt: skip
"""Methods that are run where workers share skills, one seed."""


def name_methods(name: str) -> tuple[str, ...]:
    """Name the methods of a place."""
    place = PLACES[name]
    if not place.chosen_at:
        return tuple(place.rates)
    if not place.pruned and not place.dolly:
        return SHARED
    return (*FEW[place.chosen_at], *(("LoRA",) if name == DOLLY else ()))


def at_best(book: Book, place: str, name: str, seed: int) -> Cell | None:
    """Give the cell of a method at its best rate; None where none was tried."""
    lr = find_rate(book, PLACES[place].chosen_at or place, name, PLACES[place].rates[name])
    return None if lr is None else Cell(place, name, lr, seed)


def list_cells(book: Book, places: Sequence[str], methods: Sequence[str] = ()) -> Iterator[Cell]:
    """List what is to be measured: rates, then other seeds, then other places.

    Args:
        book: what is there.
        places: where.
        methods: of which methods; none for all.
    """
    cells = list_places(book, places)
    yield from (cell for cell in cells if not methods or cell.name in methods)


def list_places(book: Book, places: Sequence[str]) -> Iterator[Cell]:
    """List what is to be measured at some places, by all methods."""
    first = [name for name in places if not PLACES[name].chosen_at]
    for name in first:
        for method, rates in PLACES[name].rates.items():
            yield from (Cell(name, method, lr, 0) for lr in rates)
    others = [name for name in places if PLACES[name].chosen_at]
    for name, seed in [*((one, seed) for seed in SEEDS[1:] for one in first),
                       *((one, 0) for one in others)]:  # fmt: skip
        cells = (at_best(book, name, method, seed) for method in name_methods(name))
        yield from (cell for cell in cells if cell is not None)


def list_tests(book: Book, place: str, name: str) -> list[float]:
    """List the perplexities of a method at its best rate, one a seed."""
    return list_figures(book, at_best(book, place, name, 0), SEEDS)


def judge_pair(book: Book, place: str, mine: str, rival: str, asked: float | None) -> Gate:
    """Ask that a perplexity be below a rival's; one of whose rates one is untried is not judged."""
    title = f"{place}: perplexity of {mine} below that of {rival}"
    found = judge_reduction(
        title, asked, list_tests(book, place, mine), list_tests(book, place, rival)
    )
    rates = PLACES[place].rates[rival]
    tried = list_tried(book, PLACES[place].chosen_at or place, rival, rates)
    if found.ok is not None and len(tried) < len(rates):
        return Gate(title, found.asked, f"{found.measured}; not judged: {rival} at one rate only")
    return found


def show_place(book: Book, place: str) -> Iterator[Gate]:
    """Show every method of a place: perplexity at its best rate, and numbers trained."""
    bare = book.figures.get(name_bare(place))
    if bare is not None:
        yield Gate(f"{place}: the model as it is", "-", f"{bare['test']['all']:.1f}")
    for name in name_methods(place):
        title, cell = f"{place}: {name}", at_best(book, place, name, 0)
        found = list_tests(book, place, name)
        if cell is None or not found:
            yield not_run(title, "-", REASON)
            continue
        rates = PLACES[place].rates[name]
        tried = len(list_tried(book, PLACES[place].chosen_at or place, name, rates))
        numbers = book.figures[cell.key]["numbers"] if cell.key in book.figures else 0
        said = f"{show_seeds(found)}; rate {cell.lr:g} of {tried} tried, {numbers:,} numbers"
        yield Gate(title, "-", said)


def name_bare(place: str) -> str:
    """Name the figure of the model as it is: that of the whole base has no place in its name."""
    return "bare" if place == CENTRAL else f"{place}: bare"


def judge_cost(book: Book) -> Iterator[Gate]:
    """Ask what a token, a step and its memory cost."""
    for name, asked in (("MoPs", 1.1), ("X-LoRA", None)):
        key = f"{COST}: decoding, {name}"
        title = f"decoding a token, {name} to the bare model, CPU time"
        if key in book.figures:
            yield judge_pairs(title, asked, book.figures[key]["mine"], book.figures[key]["bare"])
        else:
            yield not_run(title, "-" if asked is None else f"at most {asked:g}x", REASON)
    training = book.figures.get(f"{COST}: training")
    for name, other, asked in (
        ("MoPs", "prompt tuning", 1.0),
        ("MoPs, blocks below kept", "MoPs", None),
        ("X-LoRA", "prompt tuning", None),
    ):
        title = f"a training step, {name} to {other}"
        if training is None:
            yield not_run(title, "-" if asked is None else f"at most {asked:g}x", REASON)
            continue
        seconds, kept = training["seconds"], training["kept_bytes"]
        yield judge_pairs(f"{title}, CPU time", asked, seconds[name], seconds[other])
        share = kept[name] / kept[other]
        words = "-" if asked is None else f"at most {asked:g}x"
        ok = None if asked is None else share <= asked
        yield Gate(f"{title}, bytes kept for the backward pass", words, f"{share:.2f}x", ok)


def judge_pairs(
    name: str, asked: float | None, mine: Sequence[float], rival: Sequence[float]
) -> Gate:
    """Ask that the median of ratios be at most so much; None asks nothing."""
    found = [a / b for a, b in zip(mine, rival, strict=True)]
    if asked is None:
        return Gate(name, "-", show_seeds(found, "x"))
    return at_most(name, asked, found, "x")


def judge_step(book: Book) -> Gate:
    """Ask that a training step of the study cost no more than one of PEFT's prompt tuning."""
    name = "CPU time of a training step of the study, MoPs to prompt tuning"
    cells = [at_best(book, CENTRAL, one, 0) for one in ("MoPs", "prompt tuning")]
    mine, theirs = (list_figures(book, cell, SEEDS, "cpu_s_per_step") for cell in cells)
    if not mine or not theirs:
        return not_run(name, "at most 1x", REASON)
    return at_most(name, 1, [a / b for a, b in zip(mine, theirs, strict=False)], "x")


def tell_share(book: Book) -> Gate:
    """Say how much of what LoRA gains over prompt tuning on Dolly MoPs gains."""
    name = f"{DOLLY}: gain of MoPs over prompt tuning, as a share of LoRA's"
    found = [list_tests(book, DOLLY, one) for one in ("prompt tuning", "MoPs", "LoRA")]
    if not all(found):
        return not_run(name, "-", REASON)
    most, mine, least = (one[0] for one in found)
    return Gate(
        name, "-", f"{(most - mine) / (most - least):.2f}: {most:.2f}, {mine:.2f}, LoRA {least:.2f}"
    )


def judge_all(book: Book) -> list[Gate]:
    """Judge what is in the book."""
    central = (("prompt tuning", 3), ("prefix tuning", 0), ("deep prompts, no gate", None),
               ("LoRA", None))  # fmt: skip
    workers = (("FedPrompt", 9), ("prefix tuning", 0), ("deep prompts, no gate", None),
               ("deep prompts, each worker alone", None))  # fmt: skip
    others = {CENTRAL: central[:2], WORKERS: workers[:2]}
    return [
        *(judge_pair(book, CENTRAL, "MoPs", rival, asked) for rival, asked in central),
        judge_pair(book, CENTRAL, "MoPs, keys and values", "prefix tuning", None),
        *(
            judge_pair(book, WORKERS, mine, rival, asked)
            for mine in ("MoPs", "MoPs, one expert a worker")
            for rival, asked in workers
        ),
        judge_step(book),
        *judge_cost(book),
        *(
            judge_pair(book, name, "MoPs", rival, asked)
            for name, place in PLACES.items()
            if place.chosen_at
            for rival, asked in others[place.chosen_at]
        ),
        tell_share(book),
        *(gate for place in PLACES for gate in show_place(book, place)),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is lacking, print, keep."""
    mine = argparse.ArgumentParser(add_help=False)
    mine.add_argument("--minutes", type=float, default=math.inf)
    mine.add_argument("--places", nargs="+", default=list(PLACES), choices=[*PLACES, COST])
    mine.add_argument("--methods", nargs="+", default=[], choices=[*{**RIVALS, **METHODS}])
    asked, rest = mine.parse_known_args(arguments)
    told = options(__doc__ or "", rest)
    if told.quick:
        raise SystemExit("--quick is not there: opening the model alone takes most of a minute")
    torch.set_num_threads(1)
    book = Book.open(told.json, closed=told.kept)
    held = Measuring(book, time.monotonic() + 60 * asked.minutes, run_cell)
    places = [name for name in asked.places if name != COST]
    for name in places:
        place = PLACES[name]
        if place.chosen_at != WORKERS:
            held.measure(
                name_bare(name),
                lambda place=place: measure_bare(open_at(place.pruned, dolly=place.dolly)),
            )
    for cell in list_cells(book, places, asked.methods):
        held.take(cell)
    if COST in asked.places or len(places) == len(PLACES):
        for key, measure in COSTS.items():
            held.measure(key, lambda measure=measure: measure(open_whole()))
    return report(judge_all(book), book, told, machine())


if __name__ == "__main__":
    raise SystemExit(main())
