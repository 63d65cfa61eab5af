"""Pictures over two axes: shares as shaded and numbered cells, rows as discs by their number."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from moiety.report import plots
from moiety.report.matrices import Load, PartitionTable, Routes
from moiety.report.plots import Named

NUMBERED = 12  # columns that have room for a number in each cell
DISCS = 64  # workers that have room for a disc; more are shaded
CELLS = 3000  # cells drawn one by one; more become one image


def draw_routes(found: Routes, named: Named) -> str:
    """Draw expert by class: shade and number tell the share of a class's rows, none is pale."""
    values = [[value or 0.0 for value in row] for row in found.share]
    numbered = len(found.classes) <= NUMBERED
    with plots.open_canvas(1.1 + 0.36 * len(values)) as (figure, (axes,)):
        image = _shade(axes, values, 1.0)
        if numbered:
            for expert, row in enumerate(found.share):
                for place, value in enumerate(row):
                    ink = "white" if (value or 0) > 0.5 else plots.INK
                    text = f"{100 * value:.0f}" if value else ""
                    spot = (place + 0.5, expert + 0.5)
                    axes.text(*spot, text, color=ink, size=9, ha="center", va="center")
        else:
            _key(figure, axes, image, f"share of the {found.kind}")
        axes.set_yticks(_middles(values), [str(at) for at in range(len(values))])
        axes.invert_yaxis()
        axes.tick_params(length=0)
        axes.set_ylabel("expert")
        _class_names(axes, found.classes, found.kind)
        return plots.write_svg(figure, *named)


def draw_load_map(found: Load, named: Named) -> str:
    """Shade the share of workers that held each expert by round, where experts are many."""
    values = [list(column) for column in zip(*found.share, strict=True)]
    with plots.open_canvas(4.5) as (figure, (axes,)):
        image = _shade(axes, values, max(max(row) for row in values) or 1.0)
        _key(figure, axes, image, "share of workers")
        axes.set_ylabel("expert")
        axes.set_xlabel(f"round, from {found.rounds[0]}")
        return plots.write_svg(figure, *named)


def draw_partition(found: PartitionTable, named: Named) -> str:
    """Draw class by worker: the area of a disc is the number of rows; a line parts the unseen."""
    rows = [*found.seen, *found.unseen]
    values = [list(column) for column in zip(*rows, strict=True)]
    with plots.open_canvas(1.3 + min(0.24 * len(values), 5.0)) as (figure, (axes,)):
        if len(rows) > DISCS:
            top = max(max(row) for row in values) or 1.0
            _key(figure, axes, _shade(axes, values, top), "rows")
        else:
            _discs(axes, values)
        if found.seen and found.unseen:
            axes.axvline(len(found.seen), color=plots.INK, linewidth=1.0)
        for place, width, word in _sides(found):
            axes.text(place + width / 2, -0.25, word, ha="center", va="bottom")
        names = plots.shorten_labels(found.classes, 12)
        step = max(1, len(names) // 20)
        axes.set_yticks(_middles(values)[::step], names[::step])
        axes.set(xlim=(0, len(rows)), ylim=(len(values), 0), xlabel="worker", ylabel="class")
        places = range(0, len(rows), _stride(len(rows)))
        axes.set_xticks([at + 0.5 for at in places], [str(at) for at in places])
        return plots.write_svg(figure, *named)


def _stride(workers: int) -> int:
    steps = (factor * 10**power for power in range(9) for factor in (1, 2, 5))
    return next(step for step in steps if workers <= 8 * step)


def _sides(found: PartitionTable) -> list[tuple[int, int, str]]:
    seen, unseen = len(found.seen), len(found.unseen)
    sides = [(0, seen, f"seen ({seen})"), (seen, unseen, f"unseen ({unseen})")]
    return [side for side in sides if side[1]]


def _discs(axes: Axes, values: Sequence[Sequence[float]]) -> None:
    top = max(max(row) for row in values) or 1.0
    widest = min(280.0 / len(values[0]), 15.0) ** 2
    spots = [
        (worker + 0.5, place + 0.5, widest * rows / top)
        for place, row in enumerate(values)
        for worker, rows in enumerate(row)
        if rows
    ]
    if spots:
        x, y, area = zip(*spots, strict=True)
        axes.scatter(x, y, s=area, color=plots.COLOURS[0], linewidth=0)


def _shade(axes: Axes, values: Sequence[Sequence[float]], top: float) -> QuadMesh:
    many = len(values) * len(values[0]) > CELLS
    return axes.pcolormesh(
        values,
        cmap="Blues",
        vmin=0,
        vmax=top,
        rasterized=many,
        edgecolors="none" if many else "#dddddd",
        linewidth=0.6,
    )


def _key(figure: Figure, axes: Axes, image: QuadMesh, label: str) -> None:
    figure.colorbar(image, ax=axes, label=label)


def _class_names(axes: Axes, classes: Sequence[str], kind: str = "class") -> None:
    names = plots.shorten_labels(classes, 12)
    step = max(1, len(names) // 24)
    long = max(len(name) for name in names) > 3
    places = [at + 0.5 for at in range(len(names))]
    axes.set_xticks(places[::step], names[::step], rotation=90 if long else 0)
    axes.set_xlabel(kind)


def _middles(values: Sequence[Sequence[float]]) -> list[float]:
    return [at + 0.5 for at in range(len(values))]
