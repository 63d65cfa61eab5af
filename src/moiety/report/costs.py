"""A metric by what it cost: bytes that crossed the wire, and seconds of the rounds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from moiety.core.ledger import Ledger
from moiety.report.curves import draw_metric_by
from moiety.report.frames import Point, describe_group, tabulate_metric
from moiety.report.grid import Grid, PageFigure
from moiety.report.measure import Measure
from moiety.report.numbers import format_bytes
from moiety.report.plots import make_key
from moiety.report.series import Series


@dataclass(frozen=True)
class SpentOn:
    """What a metric is drawn against.

    Args:
        name: in a title.
        axis: what the axis says.
        add: gives what each round of a run had cost by its end, by round; 0 before the first.
        write: writes an amount.
        reading: how to read it.
    """

    name: str
    axis: str
    add: Callable[[Ledger], dict[int, float]]
    write: Callable[[float], str]
    reading: str


def sum_bytes(ledger: Ledger) -> dict[int, float]:
    """Add up the bytes of rounds, both ways, and what each worker is sent once."""
    total, known = 0, set[int]()
    found: dict[int, float] = {0: 0.0}
    for entry in ledger.rounds:
        new = {work.worker for work in entry.workers} - known
        known |= new
        total += entry.down_bytes + entry.up_bytes + ledger.start.constant_bytes * len(new)
        found[entry.round] = float(total)
    return found


def sum_seconds(ledger: Ledger) -> dict[int, float]:
    """Add up the seconds of rounds, without evaluations."""
    total, found = 0.0, {0: 0.0}
    for entry in ledger.rounds:
        total += entry.seconds
        found[entry.round] = total
    return found


BYTES = SpentOn(
    "bytes sent",
    "bytes sent, all workers together",
    sum_bytes,
    format_bytes,
    "Bytes both ways of all workers, with what each is sent once.",
)
SECONDS = SpentOn(
    "seconds",
    "seconds of training rounds",
    sum_seconds,
    lambda value: f"{value:.3g} s",
    "Seconds of the rounds on the machine that ran them, without evaluations.",
)


def tabulate_costs(series: Sequence[Series], group: str, cost: SpentOn) -> list[Point]:
    """Tabulate the metric of a group after every round evaluated, with what it had cost as clock.

    Both are means over seeds; a run that never trained costs nothing.
    """
    points = []
    for one in series:
        spent = [cost.add(ledger) for ledger in one.ledgers]
        for point in tabulate_metric([one], group):
            here = [found[point.round] for found in spent if point.round in found]
            points.append(replace(point, clock=statistics.fmean(here) if here else 0.0))
    return points


def make_cost_figures(series: Sequence[Series], group: str, by: Measure) -> list[PageFigure]:
    """Make the figures of a group's metric by bytes and by seconds, where anything was trained."""
    if all(one.reference for one in series):
        return []
    return [make_cost_figure(series, group, by, cost) for cost in (BYTES, SECONDS)]


def make_cost_figure(
    series: Sequence[Series], group: str, by: Measure, cost: SpentOn
) -> PageFigure:
    """Make the figure of a metric by one cost."""
    points = tabulate_costs(series, group, cost)
    title = f"{by.title} on the {describe_group(group)} by {cost.name}"
    ends = {point.label: point for point in points}
    trained = [ends[one.label] for one in series if not one.reference and one.label in ends]
    said = [f"{p.label} {by.write_value(p.value.mean)} for {cost.write(p.clock)}" for p in trained]
    finding = f"At the last evaluation: {'; '.join(said)}."
    reading = f"{cost.reading} Means over seeds; a dashed level was not trained."
    key = make_key(cost.name.replace(" ", "-"), group)
    label = by.label(f"{by.word}, {describe_group(group)}")
    across = (cost.axis, cost.write)
    picture = draw_metric_by(series, points, by, label, across, (key, title, finding))
    rows = [
        [p.label, str(p.round), f"{p.clock:.6g}", f"{by.scale * p.value.mean:.4g}", str(p.value.n)]
        for p in points
    ]
    grid = Grid(by.label(title), ["method", "round", cost.name, "mean", "seeds"], rows)
    return PageFigure(key, title, finding, reading, picture, [grid])
