"""Tables of numbers from ledgers; every figure and every sentence is made from one of these."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from moiety.core.keep import find_final_evaluation
from moiety.core.ledger import Group, Ledger
from moiety.core.objective import OF_CLASSES, MetricEntry
from moiety.report.series import Series, read_status

ORDER = ("seen", "unseen")


@dataclass(frozen=True)
class Spread:
    """Values over seeds: mean, sample standard deviation (none for one seed), extremes, count."""

    mean: float
    std: float | None
    low: float
    high: float
    n: int


def summarize_values(values: Iterable[float]) -> Spread | None:
    """Summarise values; those that are not finite are left out, and none gives None.

    >>> summarize_values([1.0, 2.0, 3.0])
    Spread(mean=2.0, std=1.0, low=1.0, high=3.0, n=3)
    """
    kept = [float(value) for value in values if math.isfinite(value)]
    if not kept:
        return None
    std = statistics.stdev(kept) if len(kept) > 1 else None
    return Spread(statistics.fmean(kept), std, min(kept), max(kept), len(kept))


@dataclass(frozen=True)
class Point:
    """One value of a curve: a series at a round, over its seeds.

    ``clock`` is the virtual time of the round in seconds, the mean over seeds; 0 without a clock.
    """

    label: str
    round: int
    value: Spread
    clock: float = 0.0


@dataclass(frozen=True)
class WorkerScore:
    """The metric of one worker for the final model of a run."""

    label: str
    seed: int
    group: str
    worker: int
    value: float
    rows: int
    name: str = ""


@dataclass(frozen=True)
class Summary:
    """The evaluation of final models and the costs of a series, over its seeds.

    ``down_bytes`` and ``up_bytes`` are means per worker and round; ``total_bytes`` adds what is
    sent once to every worker that took part. ``worst`` is over seen and unseen workers.
    ``worst_tenth`` is the mean over the worst tenth of them, one at least. ``metric`` is what all
    of these are values of.
    """

    label: str
    method: str
    reference: bool
    seeds: Sequence[int]
    status: Sequence[str]
    rounds: Sequence[int]
    groups: dict[str, Spread]
    worst: Spread | None
    worst_workers: Sequence[WorkerScore]
    down_bytes: Spread | None
    up_bytes: Spread | None
    total_bytes: Spread | None
    seconds: Spread | None
    metric: MetricEntry = OF_CLASSES[0]
    worst_tenth: Spread | None = None


def iterate_scores(group: Group, metric: str) -> Iterator[tuple[int, float, int]]:
    """Yield worker, value and rows of the workers that have rows to be judged on."""
    values = group.metrics.get(metric, [math.nan] * len(group.workers))
    for worker, value, rows in zip(group.workers, values, group.rows, strict=True):
        if rows > 0 and math.isfinite(value):
            yield worker, value, rows


def average_group(group: Group, metric: str) -> float:
    """Average a metric over workers, each counting the same; NaN where none has rows."""
    values = [value for _, value, _ in iterate_scores(group, metric)]
    return statistics.fmean(values) if values else math.nan


def describe_group(group: str) -> str:
    """Say who is in a group: the workers seen or unseen, or rows set apart.

    >>> describe_group("unseen"), describe_group("validation")
    ('unseen workers', 'validation rows')
    """
    return f"{group} workers" if group in ORDER else f"{group} rows"


def list_groups(series: Sequence[Series]) -> list[str]:
    """List the groups that any evaluation holds: seen, unseen, then others by name."""
    found = {
        name
        for one in series
        for ledger in one.ledgers
        for evaluation in ledger.evaluations
        for name, group in evaluation.groups.items()
        if group.workers
    }
    return [name for name in ORDER if name in found] + sorted(found.difference(ORDER))


def _points(label: str, found: Iterable[tuple[int, float]]) -> list[Point]:
    by_round: dict[int, list[float]] = defaultdict(list)
    for at, value in found:
        by_round[at].append(value)
    spreads = ((at, summarize_values(by_round[at])) for at in sorted(by_round))
    return [Point(label, at, value) for at, value in spreads if value is not None]


def tabulate_metric(series: Sequence[Series], group: str) -> list[Point]:
    """Tabulate the mean metric of a group's workers after every round evaluated."""
    return [point for one in series for point in _points(one.label, _means(one.ledgers, group))]


def tabulate_timed_metric(series: Sequence[Series], group: str) -> list[Point]:
    """Tabulate the same by virtual time, for the series that have a clock."""
    points = []
    for one in series:
        clocks: dict[int, list[float]] = defaultdict(list)
        for ledger in one.ledgers:
            for entry in ledger.rounds:
                clocks[entry.round].append(entry.clock)
        mean = {at: statistics.fmean(found) for at, found in clocks.items()}
        mine = tabulate_metric([one], group)
        points += [replace(p, clock=mean[p.round]) for p in mine if mean.get(p.round, 0.0) > 0]
    return points


def _means(ledgers: Sequence[Ledger], group: str) -> Iterator[tuple[int, float]]:
    for ledger in ledgers:
        for evaluation in ledger.evaluations:
            if group in evaluation.groups:
                metric = ledger.start.metrics[0].name
                yield evaluation.round, average_group(evaluation.groups[group], metric)


def tabulate_loss(series: Sequence[Series]) -> list[Point]:
    """Tabulate the training loss of every round."""
    return [
        point
        for one in series
        for point in _points(
            one.label, ((r.round, r.loss_mean) for ledger in one.ledgers for r in ledger.rounds)
        )
    ]


def tabulate_workers(series: Sequence[Series]) -> list[WorkerScore]:
    """Tabulate the metric of every worker for the final model of every run."""
    return [score for one in series for ledger in one.ledgers for score in _scores(one, ledger)]


def _scores(one: Series, ledger: Ledger) -> Iterator[WorkerScore]:
    for name, group in find_final_evaluation(ledger).groups.items():
        for worker, value, rows in iterate_scores(group, ledger.start.metrics[0].name):
            who = find_worker_name(ledger, worker)
            yield WorkerScore(one.label, ledger.start.seed, name, worker, value, rows, who)


def find_worker_name(ledger: Ledger, worker: int) -> str:
    """Name a worker; by its number where it has no name."""
    names = ledger.start.worker_names
    return names[worker] if 0 <= worker < len(names) else str(worker)


def average_worker_bytes(ledger: Ledger) -> tuple[float, float]:
    """Average bytes down and up per worker and round; NaN where no worker took part."""
    taken = sum(len(entry.workers) for entry in ledger.rounds)
    if not taken:
        return math.nan, math.nan
    down = sum(entry.down_bytes for entry in ledger.rounds)
    return down / taken, sum(entry.up_bytes for entry in ledger.rounds) / taken


def count_total_bytes(ledger: Ledger) -> int:
    """Add the bytes of all rounds and what every worker that took part is sent once."""
    distinct = {work.worker for entry in ledger.rounds for work in entry.workers}
    rounds = sum(entry.down_bytes + entry.up_bytes for entry in ledger.rounds)
    return rounds + ledger.start.constant_bytes * len(distinct)


def count_seconds(ledger: Ledger) -> float:
    """Return the seconds of a run: those at its end, but no less than its rounds and evaluations.

    A run that was resumed ends with the seconds since it was resumed alone.
    """
    spent = sum(entry.seconds for entry in (*ledger.rounds, *ledger.evaluations))
    return max(spent, ledger.end.seconds) if ledger.end else spent


def summarize_series(series: Sequence[Series]) -> list[Summary]:
    """Tabulate how good final models are, and the costs of every series."""
    return [_summary(one) for one in series]


def _summary(one: Series) -> Summary:
    final = [find_final_evaluation(ledger) for ledger in one.ledgers]
    metric = one.ledgers[0].start.metrics[0]
    worst_of = min if metric.higher_is_better else max
    groups = {
        name: value
        for name in list_groups([one])
        if (
            value := summarize_values(
                average_group(e.groups[name], metric.name) for e in final if name in e.groups
            )
        )
    }
    found = [
        [score for score in _scores(one, ledger) if score.group in ORDER] for ledger in one.ledgers
    ]
    worst = [worst_of(here, key=lambda score: score.value) for here in found if here]
    costs = [average_worker_bytes(ledger) for ledger in one.ledgers]
    return Summary(
        label=one.label,
        method=one.method,
        reference=one.reference,
        seeds=[ledger.start.seed for ledger in one.ledgers],
        status=[read_status(ledger) for ledger in one.ledgers],
        rounds=[evaluation.round for evaluation in final],
        groups=groups,
        worst=summarize_values(score.value for score in worst),
        worst_workers=worst,
        down_bytes=summarize_values(down for down, _ in costs),
        up_bytes=summarize_values(up for _, up in costs),
        total_bytes=summarize_values(count_total_bytes(ledger) for ledger in one.ledgers),
        seconds=summarize_values(count_seconds(ledger) for ledger in one.ledgers),
        metric=metric,
        worst_tenth=summarize_values(average_worst_tenth(here, metric) for here in found if here),
    )


def average_worst_tenth(scores: Sequence[WorkerScore], metric: MetricEntry) -> float:
    """Average the worst tenth of some workers, one at least."""
    order = sorted((one.value for one in scores), reverse=not metric.higher_is_better)
    return statistics.fmean(order[: max(1, round(len(order) / 10))])
