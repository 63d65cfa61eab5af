"""The figure of where the seconds of a round go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moiety.report.curves import draw_seconds
from moiety.report.frames import Spread
from moiety.report.grid import Grid, PageFigure
from moiety.report.matrices import RoundSeconds, tabulate_seconds
from moiety.report.numbers import NONE, format_percent, format_seconds
from moiety.report.series import Series


def make_seconds_figures(series: Sequence[Series]) -> list[PageFigure]:
    """Make the figure of seconds by phase; none where the ledgers tell of no phases."""
    rows = tabulate_seconds(series)
    if not rows:
        return []
    title = "Where the seconds of a round go"
    finding = f"A round takes on average: {'; '.join(map(describe_seconds, rows))}."
    reading = (
        "By a clock on the wall of the process that writes the ledger, averaged over the rounds of "
        "a run, then over seeds: split is asking, who gets what and cutting, send is what passes "
        "between processes, work is local training, merge is folding and the server, wait is for "
        "others. An evaluation comes after its round; its time is spread over all rounds."
    )
    picture = draw_seconds(rows, ("seconds", title, finding))
    head = ["method", "phase", "mean", "std", "least", "most", "seeds", "share (%)"]
    numbers = [line for row in rows for line in list_lines(row)]
    grid = Grid("Milliseconds of a round by phase, over seeds", head, numbers, words=2)
    return [PageFigure("seconds", title, finding, reading, picture, [grid])]


def describe_seconds(row: RoundSeconds) -> str:
    """Say how long a round of a series takes, and what most of it goes to."""
    most = max(row.phases, key=lambda name: row.phases[name].mean)
    share = format_percent(row.phases[most].mean / row.whole.mean)
    return f"{row.label} {format_seconds(row.whole.mean)}, most of it for {most} ({share})"


def list_lines(row: RoundSeconds) -> Iterator[list[str]]:
    """List the lines of a table: the phases, the whole round, and what evaluating adds to it."""
    phases = {**row.phases, "whole round": row.whole}
    for name, value in phases.items():
        share = f"{100 * value.mean / row.whole.mean:.1f}"
        yield [row.label, name, *write_milliseconds(value), share]
    yield [row.label, "evaluate", *write_milliseconds(row.evaluate), NONE]


def write_milliseconds(value: Spread) -> list[str]:
    """Write mean, standard deviation, extremes and number of some seconds."""
    std = NONE if value.std is None else f"{1000 * value.std:.2f}"
    mean, low, high = (f"{1000 * one:.2f}" for one in (value.mean, value.low, value.high))
    return [mean, std, low, high, str(value.n)]
