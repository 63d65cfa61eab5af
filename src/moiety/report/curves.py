"""Pictures over rounds, and of metrics, bytes and seconds by series."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from moiety.report import plots
from moiety.report.covers import count_covers
from moiety.report.frames import Point, WorkerScore, describe_group
from moiety.report.matrices import Load, RoundSeconds, RoundTraffic
from moiety.report.measure import Measure
from moiety.report.numbers import format_bytes, format_seconds
from moiety.report.plots import Named
from moiety.report.series import Series

PHASES = {
    "split": (plots.COLOURS[5], ""),
    "send": (plots.COLOURS[4], "\\\\\\\\"),
    "work": (plots.COLOURS[0], ""),
    "merge": (plots.COLOURS[1], "...."),
    "wait": (plots.COLOURS[3], "xxxx"),
    "other": ("#bbbbbb", ""),
    "evaluate": ("white", "////"),
}
"""Colour and hatch of what the seconds of a round go to, in the order of the bars."""

SHOWN = 400  # dots of a row at most; more are drawn as evenly spaced quantiles


def draw_metric(
    series: Sequence[Series], points: Sequence[Point], by: Measure, group: str, named: Named
) -> str:
    """Draw a metric by round, a band of one standard deviation, references as dashed lines."""
    with plots.open_canvas(3.7) as (figure, (axes,)):
        _curves(axes, series, points, clock=False)
        plots.label_rounds(axes)
        plots.label_values(axes, by.label(f"{by.word}, {describe_group(group)}"), by)
        plots.draw_grid(axes, "y")
        plots.draw_legend(figure, axes)
        return plots.write_svg(figure, *named)


def draw_timed_metric(
    series: Sequence[Series], points: Sequence[Point], by: Measure, group: str, named: Named
) -> str:
    """Draw a metric by virtual time with a band of one standard deviation."""
    with plots.open_canvas(3.7) as (figure, (axes,)):
        for at, one in enumerate(series):
            mine = [point for point in points if point.label == one.label]
            _line(axes, at, mine, [point.clock for point in mine])
        axes.set_xlabel("virtual time (s)")
        plots.label_values(axes, by.label(f"{by.word}, {describe_group(group)}"), by)
        plots.draw_grid(axes, "y")
        plots.draw_legend(figure, axes)
        return plots.write_svg(figure, *named)


def draw_metric_by(
    series: Sequence[Series],
    points: Sequence[Point],
    by: Measure,
    label: str,
    across: tuple[str, Callable[[float], str]],
    named: Named,
) -> str:
    """Draw a metric by what it had cost, which is the clock of its points.

    Args:
        series: in their order.
        points: of all.
        by: the metric.
        label: of the axis of the metric.
        across: label of the other axis, and what writes its amounts.
        named: key, title and description.
    """
    with plots.open_canvas(3.7) as (figure, (axes,)):
        _curves(axes, series, points, clock=True)
        axes.set_xlabel(across[0])
        axes.xaxis.set_major_locator(plots.MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: across[1](value)))
        plots.label_values(axes, label, by)
        plots.draw_grid(axes, "y")
        plots.draw_legend(figure, axes)
        return plots.write_svg(figure, *named)


def draw_loss(series: Sequence[Series], points: Sequence[Point], named: Named) -> str:
    """Draw the training loss by round with a band of one standard deviation."""
    with plots.open_canvas(3.5) as (figure, (axes,)):
        _curves(axes, series, points, clock=False)
        plots.label_rounds(axes)
        axes.set_ylabel("training loss (batch mean)")
        plots.draw_grid(axes, "y")
        plots.draw_legend(figure, axes)
        return plots.write_svg(figure, *named)


def _curves(axes: Axes, series: Sequence[Series], points: Sequence[Point], *, clock: bool) -> None:
    found = [[point for point in points if point.label == one.label] for one in series]
    covers = count_covers(
        [[] if one.reference else f for one, f in zip(series, found, strict=True)]
    )
    for at, (one, mine) in enumerate(zip(series, found, strict=True)):
        if one.reference:
            _level(axes, at, mine)
        else:
            _line(axes, at, mine, [p.clock for p in mine] if clock else None, covers[at])


def _line(
    axes: Axes,
    at: int,
    points: Sequence[Point],
    clock: Sequence[float] | None = None,
    covers: int = 0,
) -> None:
    if not points:
        return
    x = [point.round for point in points] if clock is None else list(clock)
    mean = [point.value.mean for point in points]
    std = [point.value.std or 0.0 for point in points]
    step = max(1, len(x) // 8)
    low = [m - s for m, s in zip(mean, std, strict=True)]
    high = [m + s for m, s in zip(mean, std, strict=True)]
    axes.plot(
        x,
        mean,
        color=plots.choose_colour(at),
        linestyle="-" if covers else plots.LINES[at % len(plots.LINES)],
        linewidth=1.5 + 3.5 * covers,  # wide enough to be seen beneath what lies on it
        alpha=0.55 if covers else 1.0,
        marker=plots.choose_marker(at),
        markersize=4.5 + 4.0 * covers,
        markevery=(at % step, step),
        label=points[0].label,
    )
    if any(std):
        axes.fill_between(x, low, high, color=plots.choose_colour(at), alpha=0.18, linewidth=0)


def _level(axes: Axes, at: int, points: Sequence[Point]) -> None:
    if not points:
        return
    value = points[-1].value
    dashes = plots.REFERENCE[at % len(plots.REFERENCE)]
    axes.axhline(
        value.mean,
        color=plots.choose_colour(at),
        linestyle=dashes,
        linewidth=1.6,
        label=points[-1].label,
    )
    if value.std:
        low, high = value.mean - value.std, value.mean + value.std
        axes.axhspan(low, high, color=plots.choose_colour(at), alpha=0.10, linewidth=0)


def draw_workers(
    rows: Sequence[tuple[str, int, Sequence[WorkerScore]]], by: Measure, named: Named
) -> str:
    """Draw every worker as a dot, one row for each series and group, with a bar at the median.

    Args:
        rows: label of the row, number of its series, its workers.
        by: the metric.
        named: key, title and description.
    """
    with plots.open_canvas(1.0 + 0.42 * len(rows)) as (figure, (axes,)):
        for height, (_, at, scores) in enumerate(rows):
            values = thin_values(sorted(score.value for score in scores))
            lift = [height + 0.11 * (place % 5 - 2) for place in range(len(values))]
            axes.plot(
                values,
                lift,
                linestyle="none",
                marker=plots.choose_marker(at),
                color=plots.choose_colour(at),
                markersize=3.6,
                alpha=0.65,
                markeredgewidth=0,
            )
            middle = statistics.median(score.value for score in scores)
            axes.plot([middle, middle], [height - 0.38, height + 0.38], color=plots.INK, lw=1.8)
        axes.set_yticks(range(len(rows)), plots.shorten_labels([row[0] for row in rows], 22))
        axes.invert_yaxis()
        axes.set_xlabel(by.label(f"{by.word} of a worker"))
        if by.share:
            axes.xaxis.set_major_formatter(plots.PercentTicks())
            axes.set_xlim(*plots.bound_shares(axes.get_xlim(), axes.dataLim.intervalx))
        plots.draw_grid(axes, "x")
        return plots.write_svg(figure, *named)


def thin_values(values: Sequence[float]) -> list[float]:
    """Keep all values, or of too many the smallest, the largest and even steps between.

    >>> thin_values([1.0, 2.0])
    [1.0, 2.0]
    """
    if len(values) <= SHOWN:
        return list(values)
    return [values[round(k * (len(values) - 1) / (SHOWN - 1))] for k in range(SHOWN)]


def draw_traffic(rows: Sequence[tuple[int, RoundTraffic]], named: Named) -> str:
    """Draw mean bytes of a round as two bars for each series; up is hatched.

    Args:
        rows: number of the series, its traffic.
        named: key, title and description.
    """
    with plots.open_canvas(1.2 + 0.6 * len(rows)) as (figure, (axes,)):
        top = max(max(row.down.mean, row.up.mean) for _, row in rows) or 1.0
        for height, (at, row) in enumerate(rows):
            for shift, value, hatch in ((-0.2, row.down, None), (0.2, row.up, "////")):
                axes.barh(
                    height + shift,
                    value.mean,
                    height=0.36,
                    facecolor="white" if hatch else plots.choose_colour(at),
                    edgecolor=plots.choose_colour(at),
                    hatch=hatch,
                )
                word = f"{'up' if hatch else 'down'} {format_bytes(value.mean)}"
                axes.text(value.mean + 0.015 * top, height + shift, word, va="center", size=9.5)
        axes.set_yticks(range(len(rows)), plots.shorten_labels([row.label for _, row in rows], 22))
        axes.invert_yaxis()
        axes.set_xlim(0, 1.42 * top)
        axes.xaxis.set_major_locator(plots.MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_bytes(value)))
        axes.set_xlabel("bytes in a round, all workers together")
        plots.draw_grid(axes, "x")
        return plots.write_svg(figure, *named)


def draw_seconds(rows: Sequence[RoundSeconds], named: Named) -> str:
    """Draw the mean seconds of a round by phase as a bar for each series, and the evaluation."""
    bars = [
        {name: s.mean for name, s in (*row.phases.items(), ("evaluate", row.evaluate))}
        for row in rows
    ]
    top = max(sum(bar.values()) for bar in bars)
    scale, unit = (1, "s") if top >= 1 else (1000, "ms")
    with plots.open_canvas(1.9 + 0.45 * len(rows)) as (figure, (axes,)):
        left = [0.0] * len(rows)
        for name, (colour, hatch) in PHASES.items():
            width = [scale * bar[name] for bar in bars]
            if any(width):
                axes.barh(
                    range(len(rows)), width, left=left, height=0.6, label=name,
                    facecolor=colour, edgecolor=plots.INK, linewidth=0.5, hatch=hatch,
                )  # fmt: skip
                left = [at + w for at, w in zip(left, width, strict=True)]
        for height, (end, row) in enumerate(zip(left, rows, strict=True)):
            word = format_seconds(row.whole.mean)
            axes.text(end + 0.015 * scale * top, height, word, va="center", size=9.5)
        axes.set_yticks(range(len(rows)), plots.shorten_labels([row.label for row in rows], 22))
        axes.invert_yaxis()
        axes.set_xlim(0, 1.25 * scale * top)
        axes.set_xlabel(f"mean time of a round ({unit}); at the bar: without its evaluation")
        plots.draw_grid(axes, "x")
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=4)
        return plots.write_svg(figure, *named)


def draw_load_strips(found: Load, named: Named) -> str:
    """Draw the share of workers that held each expert by round, one strip for each expert."""
    experts = len(found.share[0])
    with plots.open_canvas(0.9 + 0.55 * experts, rows=experts) as (figure, all_axes):
        for expert, axes in enumerate(all_axes):
            share = [row[expert] for row in found.share]
            axes.fill_between(found.rounds, share, step="mid", color=plots.COLOURS[0], alpha=0.35)
            axes.step(found.rounds, share, where="mid", color=plots.COLOURS[0], linewidth=1.0)
            axes.set_ylim(0, 1.02)
            axes.set_yticks([0, 1], ["0", "100"])
            axes.set_ylabel(str(expert), rotation=0, ha="right", va="center", labelpad=4)
            axes.margins(x=0.01)
        plots.label_rounds(all_axes[-1])
        figure.supylabel("expert: share of workers that held it (%)", size=10)
        return plots.write_svg(figure, *named)
