"""Tables over two axes: routes, gate load, bytes and seconds by round, the partition of rows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moiety.core.keep import find_final_evaluation
from moiety.core.ledger import Ledger, Round
from moiety.report.experts import describe_use
from moiety.report.frames import Spread, summarize_values
from moiety.report.series import Series


@dataclass(frozen=True)
class Routes:
    """Where the rows of each class went with the final model of one run.

    ``share[e][c]`` is the share of the rows of class c that the gate sent to expert e; a class
    without rows has None. Experts are numbered afresh in every run, so seeds are never summed.
    ``kind`` is the word for a class, ``use`` a sentence on what experts tell of classes.
    """

    label: str
    seed: int
    classes: Sequence[str]
    counts: Sequence[Sequence[int]]
    share: Sequence[Sequence[float | None]]
    kind: str = "class"
    use: str = ""


@dataclass(frozen=True)
class Load:
    """The share of workers that held each expert, [rounds, experts], in one run."""

    label: str
    seed: int
    rounds: Sequence[int]
    share: Sequence[Sequence[float]]


@dataclass(frozen=True)
class RoundTraffic:
    """Bytes of one round over the rounds and seeds of a series, down and up."""

    label: str
    down: Spread
    up: Spread


@dataclass(frozen=True)
class RoundSeconds:
    """Seconds of a round: the mean of a run's rounds, over the seeds of a series.

    ``phases`` add up to the ``whole``: what is of none of them is ``other``. ``evaluate`` comes
    after a round, and is spread evenly over rounds that were evaluated and those that were not.
    """

    label: str
    phases: Mapping[str, Spread]
    whole: Spread
    evaluate: Spread


@dataclass(frozen=True)
class PartitionTable:
    """Rows per class of every worker, [workers, classes]; those seen come first."""

    seed: int
    classes: Sequence[str]
    seen: Sequence[Sequence[int]]
    unseen: Sequence[Sequence[int]]


def normalise_columns(counts: Sequence[Sequence[int]]) -> list[list[float | None]]:
    """Divide every column by its sum; a column of zeros has no shares.

    >>> normalise_columns([[1, 0], [3, 0]])
    [[0.25, None], [0.75, None]]
    """
    totals = [sum(column) for column in zip(*counts, strict=True)]
    return [
        [value / total if total else None for value, total in zip(row, totals, strict=True)]
        for row in counts
    ]


def tabulate_routes(one: Series) -> list[Routes]:
    """Tabulate expert by class for every run of a series that routed rows."""
    return [
        Routes(
            one.label,
            ledger.start.seed,
            _classes(ledger, len(found[0])),
            found,
            normalise_columns(found),
            name_strata(ledger),
            describe_use(ledger, name_strata(ledger)),
        )
        for ledger in one.ledgers
        if (found := find_final_evaluation(ledger).routes)
    ]


KINDS = {"answers": "skill"}
"""Objective -> what its rows are told apart by; others have classes."""


def name_strata(ledger: Ledger) -> str:
    """Say what rows are told apart by."""
    return KINDS.get(ledger.start.objective, "class")


def _classes(ledger: Ledger, width: int) -> list[str]:
    names = [str(name) for name in ledger.start.classes]
    return names if len(names) == width else [str(index) for index in range(width)]


def tabulate_loads(one: Series) -> list[Load]:
    """Tabulate the gate load by round for every run of a series that has one."""
    found = [[entry for entry in ledger.rounds if entry.gate_load] for ledger in one.ledgers]
    return [
        Load(
            one.label,
            ledger.start.seed,
            [entry.round for entry in rounds],
            [list(entry.gate_load) for entry in rounds],
        )
        for ledger, rounds in zip(one.ledgers, found, strict=True)
        if rounds
    ]


def average_load(load: Load) -> list[float]:
    """Average the load of each expert over rounds."""
    return [statistics.fmean(column) for column in zip(*load.share, strict=True)]


def tabulate_traffic(series: Sequence[Series]) -> list[RoundTraffic]:
    """Tabulate the bytes of a round, over all rounds and seeds; references send none."""
    found = []
    for one in series:
        rounds = [entry for ledger in one.ledgers for entry in ledger.rounds]
        down, up = (
            summarize_values(r.down_bytes for r in rounds),
            summarize_values(r.up_bytes for r in rounds),
        )
        if down is not None and up is not None:
            found.append(RoundTraffic(one.label, down, up))
    return found


def list_phases(entry: Round) -> dict[str, float]:
    """List the seconds of a round by what they went to."""
    phases = {
        "split": entry.split_s,
        "send": entry.send_s,
        "work": entry.work_s,
        "merge": entry.merge_s,
        "wait": entry.wait_s,
    }
    return {**phases, "other": max(0.0, entry.seconds - sum(phases.values()))}


def is_timed(entry: Round) -> bool:
    """Say whether it was measured where the seconds of a round went."""
    *phases, _ = list_phases(entry).values()
    known = all(map(math.isfinite, (entry.seconds, entry.evaluate_s, *phases)))
    return known and sum(phases) > 0


def tabulate_seconds(series: Sequence[Series]) -> list[RoundSeconds]:
    """Tabulate the seconds of a round by phase, for the series of which they were measured."""
    found = []
    for one in series:
        runs = [[entry for entry in ledger.rounds if is_timed(entry)] for ledger in one.ledgers]
        runs = [rounds for rounds in runs if rounds]
        if not runs:
            continue
        phases = [[list_phases(entry) for entry in rounds] for rounds in runs]
        found.append(
            RoundSeconds(
                one.label,
                {
                    name: _spread_means([[entry[name] for entry in run] for run in phases])
                    for name in phases[0][0]
                },
                _spread_means([[entry.seconds for entry in run] for run in runs]),
                _spread_means([[entry.evaluate_s for entry in run] for run in runs]),
            )
        )
    return found


def _spread_means(runs: Sequence[Sequence[float]]) -> Spread:
    found = summarize_values(statistics.fmean(run) for run in runs)
    assert found is not None
    return found


def list_partitions(series: Sequence[Series]) -> list[PartitionTable]:
    """List the different partitions that the runs were made on, each with its first seed."""
    found: list[PartitionTable] = []
    for ledger in (ledger for one in series for ledger in one.ledgers):
        start = ledger.start
        rows = [*start.seen, *start.unseen]
        known = any((p.seen, p.unseen) == (start.seen, start.unseen) for p in found)
        if rows and not known:
            names = _classes(ledger, len(rows[0]))
            found.append(PartitionTable(start.seed, names, start.seen, start.unseen))
    return found


def find_unlike_seeds(series: Sequence[Series]) -> list[int]:
    """List the seeds for which not all series were run on the same partition."""
    by_seed: dict[int, list[Ledger]] = {}
    for one in series:
        for ledger in one.ledgers:
            by_seed.setdefault(ledger.start.seed, []).append(ledger)
    return [
        seed
        for seed, group in sorted(by_seed.items())
        if any(
            (other.start.seen, other.start.unseen) != (group[0].start.seen, group[0].start.unseen)
            for other in group
        )
    ]
