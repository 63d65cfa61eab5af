"""Figures of a page: a picture, what it shows in words, and its numbers as a table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from moiety.report import curves, frames, heatmaps, matrices
from moiety.report.costs import make_cost_figures
from moiety.report.covers import describe_covers
from moiety.report.frames import Point, WorkerScore
from moiety.report.grid import Grid, PageFigure
from moiety.report.measure import Measure
from moiety.report.numbers import format_bytes, format_percent
from moiety.report.plots import make_key
from moiety.report.seconds import make_seconds_figures
from moiety.report.series import Series

STRIPS = 16  # experts that have room for a strip each
LISTED = 2000  # rows of a table at most; the ledger has them all


def make_figures(series: Sequence[Series]) -> list[PageFigure]:
    """Make all figures that the ledgers have numbers for."""
    groups = frames.list_groups(series)
    groups.sort(key=lambda group: group != "unseen")  # the figure that decides comes first
    found = [view for g in groups for view in (_metric(series, g), *_timed(series, g))]
    if groups:  # by its costs, that which decides
        found[1:1] = make_cost_figures(series, groups[0], choose_series_measure(series))
    found += [_workers(series), *_loss(series)]
    for at, one in enumerate(series):
        found += [*_routes(at, one), *_load(at, one)]
    return [*found, *_traffic(series), *make_seconds_figures(series), *_partition(series)]


def choose_series_measure(series: Sequence[Series]) -> Measure:
    """Draw by the metric of the first series."""
    return Measure(series[0].ledgers[0].start.metrics[0])


def _trim(number: float) -> str:
    return f"{number:.4g}"


def _curve_grid(caption: str, points: Sequence[Point], *, share: bool) -> Grid:
    scale = 100 if share else 1
    rows = [
        [p.label, str(p.round), *(_number(v, scale) for v in _stats(p)), str(p.value.n)]
        for p in points
    ]
    return Grid(caption, ["method", "round", "mean", "std", "least", "most", "seeds"], rows)


def _stats(point: Point) -> tuple[float, float | None, float, float]:
    value = point.value
    return value.mean, value.std, value.low, value.high


def _number(value: float | None, scale: float) -> str:
    if value is None:
        return "none"
    return f"{scale * value:.2f}" if scale == 100 else f"{value:.4f}"


def _ends(points: Sequence[Point]) -> list[Point]:
    return list({point.label: point for point in points}.values())


def _metric(series: Sequence[Series], group: str) -> PageFigure:
    points, by = frames.tabulate_metric(series, group), choose_series_measure(series)
    # of every seed's own final model, as in the summary: a run cut short has no later point
    final = [(row.label, row.groups.get(group)) for row in frames.summarize_series(series)]
    known = [(label, end) for label, end in final if end]
    ends = sorted(known, key=lambda pair: -by.sign * pair[1].mean)
    said = "; ".join(f"{label} {by.write_spread(end)}" for label, end in ends)
    key, title = (
        make_key("metric", group),
        f"{by.title} on the {frames.describe_group(group)} by round",
    )
    finding = f"Of the final model of each run: {said}.{describe_covers(series, points)}"
    reading = (
        "Mean over workers, each counting the same; lines are means over seeds, bands one sample "
        "standard deviation to either side. A run that was never trained is a dashed level. "
        "Where runs end at different rounds, later points are of fewer seeds."
    )
    picture = curves.draw_metric(series, points, by, group, (key, title, finding))
    caption = f"{by.label(f'{by.title} on the {frames.describe_group(group)}')}, over seeds"
    grid = _curve_grid(caption, points, share=by.share)
    return PageFigure(key, title, finding, reading, picture, [grid])


def _timed(series: Sequence[Series], group: str) -> list[PageFigure]:
    points, by = frames.tabulate_timed_metric(series, group), choose_series_measure(series)
    if not points:
        return []
    title = f"{by.title} on the {frames.describe_group(group)} by virtual time"
    key = make_key("timed", group)
    last = _ends(points)
    ends = [f"{p.label} {by.write_spread(p.value)} at {_trim(p.clock)} s" for p in last]
    finding = f"At the last evaluation: {'; '.join(ends)}."
    reading = "Virtual seconds, from declared speeds, not those of this machine; means over seeds."
    picture = curves.draw_timed_metric(series, points, by, group, (key, title, finding))
    rows = [[p.label, f"{p.clock:.2f}", *(_number(v, by.scale) for v in _stats(p))] for p in points]
    head = ["method", "virtual s", "mean", "std", "least", "most"]
    return [PageFigure(key, title, finding, reading, picture, [Grid(by.label(title), head, rows)])]


def _loss(series: Sequence[Series]) -> list[PageFigure]:
    points = frames.tabulate_loss(series)
    if not points:
        return []
    first: dict[str, Point] = {}
    for point in points:
        first.setdefault(point.label, point)
    said = "; ".join(
        f"{end.label} from {_trim(first[end.label].value.mean)} to {_trim(end.value.mean)}"
        for end in _ends(points)
    )
    title, finding = "Training loss by round", f"From the first round to the last: {said}."
    reading = (
        "Mean of the workers' batch losses, with all terms of the method's loss; so compare the "
        "shape of curves, not their heights. Lines are means over seeds, bands one sample standard "
        "deviation to either side."
    )
    picture = curves.draw_loss(series, points, ("loss", title, finding))
    grid = _curve_grid("Training loss, over seeds", points, share=False)
    return [PageFigure("loss", title, finding, reading, picture, [grid])]


def _workers(series: Sequence[Series]) -> PageFigure:
    scores, by = frames.tabulate_workers(series), choose_series_measure(series)
    worst_of = min if by.sign > 0 else max
    rows: list[tuple[str, int, list[WorkerScore]]] = []
    said = []
    for at, one in enumerate(series):
        for group in [name for name in frames.list_groups([one]) if name != "validation"]:
            mine = [s for s in scores if s.label == one.label and s.group == group]
            if mine:
                rows.append((f"{one.label}, {group}", at, mine))
                middle = statistics.median(score.value for score in mine)
                worst = by.write_value(worst_of(score.value for score in mine))
                said.append(f"{rows[-1][0]}: {by.write_value(middle)}, worst {worst}")
    title = f"{by.title} of every worker"
    finding = f"Median over workers and seeds: {'; '.join(said)}."
    reading = (
        "A dot is a worker of one seed, for its final model, its height only keeps dots apart; "
        "the upright bar is the median."
    )
    picture = curves.draw_workers(rows, by, ("workers", title, finding))
    return PageFigure("workers", title, finding, reading, picture, [_worker_grid(scores, by)])


def _worker_grid(scores: Sequence[WorkerScore], by: Measure) -> Grid:
    by_place: dict[tuple[int, str, int], dict[str, WorkerScore]] = {}
    for score in scores:
        by_place.setdefault((score.seed, score.group, score.worker), {})[score.label] = score
    names = list(dict.fromkeys(score.label for score in scores))
    rows = []
    for (seed, group, worker), found in sorted(by_place.items())[:LISTED]:
        held = [_number(found[name].value if name in found else None, by.scale) for name in names]
        one = next(iter(found.values()))
        rows.append([str(seed), group, one.name or str(worker), str(one.rows), *held])
    left = len(by_place) - len(rows)
    more = f"; {left} more are in the ledgers" if left else ""
    head = ["seed", "group", "worker", "rows", *names]
    return Grid(by.label(f"{by.title} of every worker") + more, head, rows, words=3)


def _routes(at: int, one: Series) -> list[PageFigure]:
    found = matrices.tabulate_routes(one)
    if not found:
        return []
    first = found[0]
    title = f"Which expert gets which {first.kind}: {one.label}, seed {first.seed}"
    finding = f"By {first.kind}, the expert that gets most of its rows: {_favourites(first)}."
    reading = (
        f"Share of the rows of a {first.kind} (%) that the gate of the final model sends to an "
        "expert; a column adds up to 100. Experts are numbered afresh for every seed, so seeds are "
        f"not averaged: the picture is of the first, the numbers are of all. {first.use}"
    )
    grids = [
        Grid(
            f"Rows sent to each expert by {route.kind} (share of it, %), seed {route.seed}",
            ["expert", *route.classes],
            [
                [str(at), *(_cell(n, s) for n, s in zip(*both, strict=True))]
                for at, both in enumerate(zip(route.counts, route.share, strict=True))
            ],
        )
        for route in found
    ]
    picture = heatmaps.draw_routes(first, (f"routes-{at}", title, finding))
    return [PageFigure(f"routes-{at}", title, finding, reading, picture, grids)]


def _favourites(found: matrices.Routes) -> str:
    held: list[list[str]] = [[] for _ in found.share]
    for place, name in enumerate(found.classes):
        column = [row[place] or 0.0 for row in found.share]
        if any(column):
            name = f"{found.kind} {name} ({format_percent(max(column))})"
            held[column.index(max(column))].append(name)
    return "; ".join(
        f"expert {expert}: {', '.join(names) or 'none'}" for expert, names in enumerate(held)
    )


def _cell(count: int, share: float | None) -> str:
    return str(count) if share is None else f"{count} ({100 * share:.1f})"


def _load(at: int, one: Series) -> list[PageFigure]:
    found = matrices.tabulate_loads(one)
    if not found:
        return []
    first = found[0]
    mean = matrices.average_load(first)
    most, least = mean.index(max(mean)), mean.index(min(mean))
    key, title = f"load-{at}", f"Gate load by round: {one.label}, seed {first.seed}"
    finding = (
        f"Averaged over rounds, expert {most} was held by the largest share of workers "
        f"({format_percent(mean[most])}), expert {least} by the smallest "
        f"({format_percent(mean[least])})."
    )
    reading = (
        "Share of a round's workers that held each expert. The picture is of the first seed, the "
        "numbers are of all."
    )
    draw = curves.draw_load_strips if len(mean) <= STRIPS else heatmaps.draw_load_map
    grids = [
        Grid(
            f"Share of workers that held each expert (%), seed {load.seed}",
            ["round", *(f"expert {expert}" for expert in range(len(load.share[0])))],
            [
                [str(number), *(_number(value, 100) for value in row)]
                for number, row in zip(load.rounds, load.share, strict=True)
            ],
        )
        for load in found
    ]
    return [PageFigure(key, title, finding, reading, draw(first, (key, title, finding)), grids)]


def _traffic(series: Sequence[Series]) -> list[PageFigure]:
    places = {one.label: at for at, one in enumerate(series)}
    rows = [(places[row.label], row) for row in matrices.tabulate_traffic(series)]
    if not rows:
        return []
    said = "; ".join(
        f"{row.label} {format_bytes(row.down.mean)} down and {format_bytes(row.up.mean)} up"
        for _, row in rows
    )
    title, finding = "Bytes per round", f"A round sends on average: {said}."
    reading = "All workers of a round together, averaged over rounds and seeds; up is hatched."
    picture = curves.draw_traffic(rows, ("traffic", title, finding))
    head = ["method", "direction", "mean", "least", "most"]
    numbers = [
        [row.label, way, f"{value.mean:.1f}", f"{value.low:.0f}", f"{value.high:.0f}"]
        for _, row in rows
        for way, value in (("down", row.down), ("up", row.up))
    ]
    grid = Grid("Bytes in a round, over rounds and seeds", head, numbers, words=2)
    return [PageFigure("traffic", title, finding, reading, picture, [grid])]


def _partition(series: Sequence[Series]) -> list[PageFigure]:
    found = matrices.list_partitions(series)
    if not found:
        return []
    first = found[0]
    rows = [*first.seen, *first.unseen]
    held = [sum(row) for row in rows]
    kinds = statistics.median(sum(1 for count in row if count) for row in rows)
    title = f"Rows of each class at each worker: seed {first.seed}"
    finding = (
        f"{len(first.seen)} workers seen and {len(first.unseen)} unseen hold from {min(held)} to "
        f"{max(held)} rows (median {statistics.median(held):g}), of {kinds:g} classes (median)."
    )
    reading = "Area, or shade where workers are many, tells the number of rows." + (
        f" The runs used {len(found)} partitions, one for each seed or setting; the picture is of "
        "the first, the numbers are of all."
        if len(found) > 1
        else ""
    )
    picture = heatmaps.draw_partition(first, ("partition", title, finding))
    grids = [_rows_grid(one) for one in found]
    return [PageFigure("partition", title, finding, reading, picture, grids)]


def _rows_grid(found: matrices.PartitionTable) -> Grid:
    sides = [("seen", row) for row in found.seen] + [("unseen", row) for row in found.unseen]
    rows = [
        [str(worker), side, *(str(count) for count in row), str(sum(row))]
        for worker, (side, row) in enumerate(sides[:LISTED])
    ]
    left = len(sides) - len(rows)
    more = f"; {left} more are in the ledgers" if left else ""
    head = ["worker", "group", *found.classes, "all"]
    return Grid(f"Rows per class of every worker, seed {found.seed}{more}", head, rows, words=2)
