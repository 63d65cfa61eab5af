"""Prompts with a gate beside PEFT's methods on a real language model, records of six skills.

    MOIETY_LM=FOLDER MOIETY_DATA=FOLDER python -m benchmarks.mops [--minutes N] [--check]
        [--json FILE]

The learning rate of every method is chosen on validation records with seed 0; other seeds run at
that rate. A run goes on with what the file lacks, and begins nothing after some minutes.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from benchmarks.gates import (
    Book,
    Gate,
    at_most,
    machine,
    not_run,
    options,
    report,
    spread,
)
from benchmarks.mops_parts.central import measure_bare, pick_rate, train_rival
from benchmarks.mops_parts.federated import METHODS, train_workers
from benchmarks.mops_parts.records import Study, open_study
from benchmarks.mops_parts.rivals import RIVALS

SEEDS = (0, 1)

FIRST = 6
"""Methods that are trained before those over workers."""

REASON = "no time was left for it"

LEFT = (
    ("pruned by 50 and 75 %", "the trend over compression", REASON),
    ("Dolly-15k by category", "as above", REASON),
    ("Q1 to Q9 on the made-up skills, three seeds", "thresholds of each", REASON),
    ("decoding a token, MoPs to the bare model", "at most 1.1x", REASON),
    ("X-LoRA", "-", REASON),
)
"""What was asked and is measured by nothing here yet: name, what was asked, why."""


@dataclass
class Measuring:
    """What is measured until a time: a closed book gives what it has."""

    book: Book
    end: float
    study: Study | None = None

    def take(self, key: str, measure: Callable[[Study], Any]) -> Any | None:
        """Measure, or give what was measured; None where no time is left."""
        if key in self.book.figures:
            return self.book.figures[key]
        if self.book.closed or time.monotonic() > self.end:
            return None
        if self.study is None:
            self.study = open_study()
        study = self.study
        return self.book.measure(key, lambda: measure(study))


def name_central(name: str, lr: float, seed: int) -> str:
    """Name the figures of a central run."""
    return f"central: {name}, rate {lr:g}, seed {seed}"


def name_workers(name: str, lr: float, seed: int) -> str:
    """Name the figures of a run over workers."""
    return f"over workers: {name}, rate {lr:g}, seed {seed}"


def take_rate(held: Measuring, place: int, names: Iterable[str] = RIVALS) -> None:
    """Train methods at their first or second rate, seed 0."""
    for name in names:
        lr = RIVALS[name].rates[place]
        run = partial(train_rival, name=name, lr=lr, seed=0)
        held.take(name_central(name, lr, 0), run)


def take_seed(held: Measuring, seed: int) -> None:
    """Train every method with another seed, at its best rate."""
    for name in RIVALS:
        lr = find_rate(held.book, name)
        if lr is not None:
            run = partial(train_rival, name=name, lr=lr, seed=seed)
            held.take(name_central(name, lr, seed), run)


def take_workers(held: Measuring, place: int) -> None:
    """Train methods over workers at their first or second rate, seed 0."""
    for name, method in METHODS.items():
        lr = method.rates[place]
        run = partial(train_workers, name=name, lr=lr, seed=0)
        held.take(name_workers(name, lr, 0), run)


def take_workers_seed(held: Measuring, seed: int) -> None:
    """Train every method over workers with another seed, at its best rate."""
    for name in METHODS:
        lr = find_workers_rate(held.book, name)
        if lr is not None:
            run = partial(train_workers, name=name, lr=lr, seed=seed)
            held.take(name_workers(name, lr, seed), run)


def find_rate(book: Book, name: str) -> float | None:
    """Find the best rate of those that were tried; None where none was."""
    return pick_tried(book, {lr: name_central(name, lr, 0) for lr in RIVALS[name].rates})


def find_workers_rate(book: Book, name: str) -> float | None:
    """Find the best rate over workers of those that were tried; None where none was."""
    return pick_tried(book, {lr: name_workers(name, lr, 0) for lr in METHODS[name].rates})


def pick_tried(book: Book, keys: Mapping[float, str]) -> float | None:
    """Pick the best of the rates whose figures are in the book."""
    found = {lr: book.figures[key] for lr, key in keys.items() if key in book.figures}
    return pick_rate(found) if found else None


def list_central(book: Book, name: str) -> list[float]:
    """List the perplexities of a method at its best rate, one a seed."""
    lr = find_rate(book, name)
    keys = [] if lr is None else [name_central(name, lr, seed) for seed in SEEDS]
    return [book.figures[key]["test"]["all"] for key in keys if key in book.figures]


def reduce_perplexity(rival: Sequence[float], mine: Sequence[float]) -> list[float]:
    """Say by how many percent a perplexity is below a rival's, seed by seed."""
    return [100 * (1 - one / other) for one, other in zip(mine, rival, strict=False)]


def judge_reduction(book: Book, rival: str, asked: float | None, *, mine: str = "MoPs") -> Gate:
    """Ask that a method's perplexity be below a rival's by some percent.

    A rival of whose rates one is untried is not at its best, so nothing is judged.
    """
    name = f"central: perplexity of {mine} below that of {rival}"
    words = "-" if asked is None else f"at least {asked:g} %"
    found = reduce_perplexity(list_central(book, rival), list_central(book, mine))
    if not found:
        return not_run(name, words, REASON)
    if not all(name_central(rival, lr, 0) in book.figures for lr in RIVALS[rival].rates):
        return Gate(
            name, words, f"{write_spread(found, ' %')}; not judged: {rival} at one rate only"
        )
    ok = None if asked is None else statistics.median(found) >= asked
    return Gate(name, words, write_spread(found, " %"), ok)


def write_spread(found: Sequence[float], unit: str = "") -> str:
    """Write the median of some seeds and their range, or the figure of the one seed."""
    return spread(found, unit) if found[1:] else f"{found[0]:.2f}{unit} (one seed)"


def list_workers(book: Book, name: str) -> list[float]:
    """List the perplexities of a method over workers at its best rate, one a seed."""
    lr = find_workers_rate(book, name)
    keys = [] if lr is None else [name_workers(name, lr, seed) for seed in SEEDS]
    return [book.figures[key]["test"]["all"] for key in keys if key in book.figures]


def judge_workers(book: Book, rival: str, asked: float | None, mine: str) -> Gate:
    """Ask that a form of MoPs over workers be below a rival by some percent."""
    name = f"over workers: perplexity of {mine} below that of {rival}"
    words = "-" if asked is None else f"at least {asked:g} %"
    found = reduce_perplexity(list_workers(book, rival), list_workers(book, mine))
    if not found:
        return not_run(name, words, REASON)
    if not all(name_workers(rival, lr, 0) in book.figures for lr in METHODS[rival].rates):
        return Gate(
            name, words, f"{write_spread(found, ' %')}; not judged: {rival} at one rate only"
        )
    ok = None if asked is None else statistics.median(found) >= asked
    return Gate(name, words, write_spread(found, " %"), ok)


def show_workers(book: Book) -> Iterator[Gate]:
    """Show every method over workers."""
    for name, method in METHODS.items():
        title, found = f"over workers: {name}", list_workers(book, name)
        lr = find_workers_rate(book, name)
        if lr is None:
            yield not_run(title, "-", REASON)
            continue
        numbers = book.figures[name_workers(name, lr, 0)]["numbers"]
        tried = sum(name_workers(name, one, 0) in book.figures for one in method.rates)
        said = f"{write_spread(found)}; rate {lr:g} of {tried} tried, {numbers:,} numbers"
        yield Gate(title, "-", said)


def judge_step(book: Book) -> Gate:
    """Ask that a training step cost no more than one of PEFT's prompt tuning."""
    name = "CPU time of a training step, MoPs to prompt tuning of as many prompts"
    found = {
        one: [figures["cpu_s_per_step"] for key, figures in book.figures.items()
              if key.startswith(f"central: {one}, rate")]
        for one in ("MoPs", "prompt tuning")
    }  # fmt: skip
    if not all(found.values()):
        return not_run(name, "at most 1x", REASON)
    pairs = zip(found["MoPs"], found["prompt tuning"], strict=False)
    return at_most(name, 1, [mine / theirs for mine, theirs in pairs], "x")


def show_central(book: Book) -> Iterator[Gate]:
    """Show every method: perplexity at its best rate, and numbers trained."""
    bare = book.figures.get("bare")
    if bare is not None:
        yield Gate("central: the model as it is", "-", f"{bare['test']['all']:.1f}")
    for name in RIVALS:
        found, lr = list_central(book, name), find_rate(book, name)
        title = f"central: {name}"
        if lr is None:
            yield not_run(title, "-", REASON)
            continue
        numbers = book.figures[name_central(name, lr, 0)]["numbers"]
        tried = sum(name_central(name, one, 0) in book.figures for one in RIVALS[name].rates)
        said = f"{write_spread(found)}; rate {lr:g} of {tried} tried, {numbers:,} numbers"
        yield Gate(title, "-", said)


def judge_all(book: Book) -> list[Gate]:
    """Judge what is in the book."""
    return [
        judge_reduction(book, "prompt tuning", 3),
        judge_reduction(book, "prefix tuning", 0),
        judge_reduction(book, "deep prompts, no gate", None),
        judge_reduction(book, "LoRA", None),
        judge_reduction(book, "deep prompts, no gate", None, mine="MoPs, gate by clusters"),
        judge_step(book),
        *(
            judge_workers(book, rival, asked, mine)
            for mine in ("MoPs, one expert a worker", "MoPs, by usage")
            for rival, asked in (
                ("FedPrompt", 9),
                ("prefix tuning", 0),
                ("deep prompts, no gate", None),
            )
        ),
        *show_central(book),
        *show_workers(book),
        *(not_run(name, asked, why) for name, asked, why in LEFT),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is lacking, print, keep."""
    mine = argparse.ArgumentParser(add_help=False)
    mine.add_argument("--minutes", type=float, default=math.inf)
    asked, rest = mine.parse_known_args(arguments)
    told = options(__doc__ or "", rest)
    if told.quick:
        raise SystemExit("--quick is not there: opening the model alone takes most of a minute")
    torch.set_num_threads(1)
    book = Book.open(told.json, closed=told.kept)
    held = Measuring(book, time.monotonic() + 60 * asked.minutes)
    held.take("bare", measure_bare)
    take_rate(held, 0, [*RIVALS][:FIRST])
    take_workers(held, 0)
    take_workers(held, 1)
    for seed in SEEDS[1:]:
        take_workers_seed(held, seed)
        take_seed(held, seed)
    take_rate(held, 0)
    take_rate(held, 1)
    return report(judge_all(book), book, told, machine())


if __name__ == "__main__":
    raise SystemExit(main())
