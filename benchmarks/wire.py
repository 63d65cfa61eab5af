"""Codes of what is sent: bytes of a round, and what is learnt in equal rounds.

Digits, three seeds. Networks with two hidden layers of 128 units at four workers with equal shares
(FedAvg, DiLoCo, IST: 24 rounds of 20 local steps; data parallelism: as many steps, each a
round), and DDOME's quickstart (24 workers, 60 rounds). Asked: DiLoCo with at least 100 times fewer
bytes than data parallelism and 8 times fewer than its own in float32, with a test loss at most 1 %
above that; IST with pieces of 4 bits: the fewest bytes to one accuracy of all in the table. Then
seconds to that accuracy over links of 10 and 100 Mbit/s: rounds to it, times the seconds of a round
of four ranks behind such links (``benchmarks.wire_links``; needs root, ip and tc). A quick run
takes one seed, 4 rounds, no data parallelism and no links.

    python -m benchmarks.wire [--quick] [--check] [--json FILE]
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from benchmarks.gates import Book, Gate, at_least, at_most, not_run, options, report
from benchmarks.wire_links import RATES, can_shape_links, time_links
from moiety.engine.pool import Pool
from moiety.engine.ranks import Ranks
from moiety.recipes import RECIPES
from moiety.recipes.build import build_run
from moiety.recipes.record import Federation, write_read_fields
from moiety.rounds.asynchronous import Concurrency
from moiety.rounds.staged import stage_rounds
from moiety.rounds.synchronous import initialise_state
from moiety.run.play import make_run_cohort
from moiety.run.whole import WholeEvaluation
from moiety.wire.config import WireConfig

PLAIN = "float32"
CHAINS: Mapping[str, WireConfig] = {
    PLAIN: WireConfig(),
    "delta int2 / int4": WireConfig(("delta", "int2"), ("int4",)),
    "delta int4 / int4": WireConfig(("delta", "int4"), ("int4",)),
    "delta topk 2 % int8 / int4": WireConfig(("delta", "topk", "int8"), ("int4",), keep=0.02),
    "delta int8 / bf16": WireConfig(("delta", "int8"), ("bf16",)),
}
"""What is written up / down, and how."""

BEST, PIECES = "delta int2 / int4", "delta int4 / int4"
"""The chains of which something is asked: of DiLoCo, of IST."""

SEEDS, ROUNDS, STEPS, EVALUATIONS, ACCURACY = (0, 1, 2), 24, 20, 12, 0.95


@dataclass(frozen=True)
class World:
    """A method on a recipe's data.

    Args:
        method: its name.
        recipe: whose record is played.
        rounds: of it.
        group: whose accuracy counts.
        chains: that are tried.
        lr: of local training, where it is another than the recipe's.
    """

    method: str
    recipe: str = "ist-digits"
    rounds: int = ROUNDS
    group: str = "test"
    chains: Sequence[str] = tuple(CHAINS)
    lr: float = 0.0


WORLDS = (
    World("diloco", lr=0.001),
    World("ist"),
    World("data_parallel", rounds=ROUNDS * STEPS, chains=(PLAIN,)),
    World("fedavg"),
    World("ddome", "quickstart", 60, "unseen"),
)


def make_record(world: World, chain: str) -> Federation:
    """Make the record of a run."""
    base = RECIPES[world.recipe].record
    local = replace(base.local, lr=world.lr or base.local.lr)
    return replace(base, methods=(world.method,), rounds=world.rounds, local=local,
                   wire=CHAINS[chain])  # fmt: skip


def play(world: World, chain: str, seed: int, rounds: int = 0) -> dict[str, list[float]]:
    """Play a run: bytes since it began, accuracy and loss at each evaluation."""
    record = make_record(world, chain)
    built = build_run(record, world.method, seed)
    engine = Pool(built.open, processes=1)
    cohort, limit = make_run_cohort(record, built), Concurrency(built.num_seen, built.cohort_size)
    played = stage_rounds(built.stages, engine, cohort, seed, record.schedule, limit)
    evaluate = WholeEvaluation(played, built.groups, built.sample, Ranks())
    state, total, rounds = initialise_state(built.method), 0, rounds or world.rounds
    told: dict[str, list[float]] = {"rounds": [], "bytes": [], "accuracy": [], "loss": []}
    for number in range(1, rounds + 1):
        state, entry = played.advance(state)
        total += entry.down_bytes + entry.up_bytes
        if number % max(1, rounds // EVALUATIONS) == 0:
            metrics = evaluate(state).groups[world.group].metrics
            told["bytes"].append(total)
            told["rounds"].append(number)
            told["accuracy"].append(statistics.fmean(metrics["accuracy"]))
            told["loss"].append(statistics.fmean(metrics["loss"]))
    return told


def count_bytes_to(told: Mapping[str, Sequence[float]], accuracy: float) -> float:
    """Count the bytes until an accuracy is reached for the first time; infinite where it never is.

    >>> count_bytes_to({"bytes": [10, 20], "accuracy": [0.5, 0.9]}, 0.9)
    20
    """
    return find_first(told, "bytes", accuracy)


def count_rounds_to(told: Mapping[str, Sequence[float]], accuracy: float) -> float:
    """Count the rounds until an accuracy is reached for the first time, where it is looked at."""
    return find_first(told, "rounds", accuracy)


def find_first(told: Mapping[str, Sequence[float]], column: str, accuracy: float) -> float:
    """Find what stands in a column where an accuracy is reached for the first time."""
    pairs = zip(told[column], told["accuracy"], strict=True)
    return next((value for value, reached in pairs if reached >= accuracy), float("inf"))


Runs = Mapping[tuple[str, str], Sequence[Mapping[str, Sequence[float]]]]
"""Method and chain -> what each seed told."""


def write_row(runs: Runs, world: World, chain: str) -> str:
    """Write one line of the table."""
    found, plain = runs[world.method, chain], runs[world.method, PLAIN]
    each = [one["bytes"][-1] / one["rounds"][-1] for one in found]
    less = statistics.mean(one["bytes"][-1] for one in plain) / statistics.mean(
        one["bytes"][-1] for one in found
    )
    scores = [100 * one["accuracy"][-1] for one in found]
    losses = [one["loss"][-1] for one in found]
    sizes = [count_bytes_to(one, ACCURACY) / 1e6 for one in found]
    spent = f"{statistics.mean(sizes):.3f}" if max(sizes) < float("inf") else "not reached"
    cells = (world.method, chain, f"{statistics.mean(each):,.0f}", f"{less:.1f}")
    return f"| {' | '.join((*cells, spread(scores, 1), spread(losses, 4), spent))} |"


def spread(values: Sequence[float], digits: int) -> str:
    """Write a mean and the standard deviation over seeds."""
    more = f" ± {statistics.stdev(values):.{digits}f}" if values[1:] else ""
    return f"{statistics.mean(values):.{digits}f}{more}"


def write_table(runs: Runs) -> str:
    """Write all lines."""
    lines = [
        "| method | up / down | bytes a round | times fewer | accuracy, % | loss | "
        f"MB to {ACCURACY:.0%} |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [write_row(runs, w, c) for w in WORLDS for c in w.chains if (w.method, c) in runs]
    return "\n".join(lines)


def judge(runs: Runs) -> list[Gate]:
    """Hold what was measured to what was asked, of seeds that all have."""
    best, plain = runs["diloco", BEST], runs["diloco", PLAIN]
    pairs = list(zip(best, plain, strict=False))
    fewer = [two["bytes"][-1] / one["bytes"][-1] for one, two in pairs]
    losses = [statistics.mean(one["loss"][-1] for one in some) for some in (best, plain)]
    gates = [
        at_least(f"diloco {BEST}: bytes below float32's", 8, fewer),
        at_most(f"diloco {BEST}: mean loss over float32's", 1.01, [losses[0] / losses[1]]),
    ]
    name = f"diloco {BEST}: bytes below data parallelism's, for equal steps"
    if ("data_parallel", PLAIN) not in runs:
        return [*gates, not_run(name, "at least 100x", "a quick run makes no single steps")]
    base = runs["data_parallel", PLAIN]
    apart = [one["bytes"][-1] / two["bytes"][-1] for one, two in zip(base, best, strict=False)]
    return [*gates, at_least(name, 100, apart), judge_fewest(runs)]


def judge_fewest(runs: Runs) -> Gate:
    """Say whether IST with pieces of 4 bits reaches the accuracy with the fewest bytes of all.

    DDOME is left out: its workers, labels and test rows are others.
    """
    spent = {
        key: statistics.mean(count_bytes_to(one, ACCURACY) for one in found)
        for key, found in runs.items() if key[0] != "ddome"
    }  # fmt: skip
    least = min(spent, key=lambda key: spent[key])
    near = min([key for key in spent if key[0] != "ist"], key=lambda key: spent[key])
    said = (
        f"{spent['ist', PIECES] / 1e6:.3f} MB; of other methods {' '.join(near)} with "
        f"{spent[near] / 1e6:.3f}; fewest of all {' '.join(least)} with {spent[least] / 1e6:.3f}"
    )
    name = f"ist {PIECES}: MB to {ACCURACY:.0%}"
    return Gate(name, "fewer than any other method", said, spent["ist", PIECES] < spent[near])


def measure(book: Book, *, quick: bool) -> Runs:
    """Play all runs, or those of a quick one."""
    runs = {}
    for world in WORLDS:
        if quick and world.rounds > ROUNDS * STEPS // 2:
            continue
        chains = [c for c in world.chains if c in (PLAIN, BEST, PIECES)] if quick else world.chains
        for chain in chains:
            takes: dict[str, Callable[[], Any]] = {
                f"{world.method}, {chain}, seed {seed}": partial(
                    play, world, chain, seed, 4 if quick else 0
                )
                for seed in (SEEDS[:1] if quick else SEEDS)
            }
            runs[world.method, chain] = book.several(takes)
    return {key: found for key, found in runs.items() if found}


def measure_links(book: Book) -> Mapping[str, Mapping[str, float]]:
    """Time rounds over links, where they can be made or are kept: rate -> run -> seconds."""
    worlds = [world for world in WORLDS if world.method != "ddome"]  # of other workers
    jobs = {
        f"{world.method}, {chain}": write_read_fields(make_record(world, chain))
        for world in worlds for chain in world.chains
    }  # fmt: skip
    takes = {f"rounds over {rate}": partial(time_links, jobs, rate) for rate in RATES}
    if not can_shape_links():
        takes = {key: take for key, take in takes.items() if key in book.figures}
    told = dict(zip(takes, book.several(takes), strict=False))
    return {key.rpartition(" ")[-1]: found for key, found in told.items()}


def write_links(runs: Runs, links: Mapping[str, Mapping[str, float]]) -> str:
    """Write the seconds to an accuracy over each link."""
    lines = [
        f"| method | up / down | rounds to {ACCURACY:.0%} | "
        + " | ".join(f"s, {rate}" for rate in links) + " |",
        "| --- | --- | ---: |" + " ---: |" * len(links),
    ]  # fmt: skip
    for (method, chain), found in runs.items():
        key = f"{method}, {chain}"
        if not all(key in seconds for seconds in links.values()):
            continue
        count = statistics.mean(count_rounds_to(one, ACCURACY) for one in found)
        spent = [f"{count * seconds[key]:.2f}" for seconds in links.values()]
        lines.append(f"| {' | '.join((method, chain, f'{count:.0f}', *spent))} |")
    return "\n".join(lines)


def main() -> int:
    """Measure, print, judge."""
    told = options(str(__doc__))
    book = Book() if told.quick else Book.open(told.json, closed=told.kept)
    runs = measure(book, quick=told.quick)
    print(write_table(runs))
    gates, links = judge(runs), {} if told.quick else measure_links(book)
    if links:
        print(write_links(runs, links))
    else:
        why = "a quick run makes no links" if told.quick else "nothing kept, or no root, ip and tc"
        gates.append(not_run(f"seconds to {ACCURACY:.0%} over {' and '.join(RATES)}", "-", why))
    facts = book.facts()
    return report(gates, book, told, {"cpu": facts["cpu"], "torch": facts["torch"]})


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
