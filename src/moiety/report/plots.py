"""Pictures of the tables: matplotlib's objects, no global state, the same bytes every time.

Every series has a colour, a line and a marker, so that no picture relies on colour alone.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter, MaxNLocator

from moiety.report.measure import Measure

Named = tuple[str, str, str]
"""Key, title and description of a picture."""

# Okabe and Ito, "Color universal design" (2008), less the yellow, which is too faint on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "-.", ":", (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
REFERENCE = ((0, (6, 3)), (0, (3, 3)), (0, (9, 2)))
INK = "#222222"
WIDTH = 5.0  # inches, that is 360 units: 10 units of text stay about 10 px on a phone
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "moiety",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 10.0,
    "axes.labelsize": 10.0,
    "axes.titlesize": 10.0,
    "legend.fontsize": 10.0,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "axes.edgecolor": INK,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.markersize": 4.5,
    "hatch.linewidth": 0.7,
}


EDGE = 0.009
"""How far an axis of shares goes beyond 0 and 1: half a marker, and no tick."""


class PercentTicks(Formatter):
    """Writes shares in percent, with as many decimals as tell the ticks from each other."""

    decimals = 0

    def set_locs(self, locs: Sequence[float]) -> None:
        """Look at the ticks before they are written, as matplotlib has it."""
        exact = (d for d in range(5) if all(abs(round(100 * x, d) - 100 * x) < 1e-6 for x in locs))
        self.decimals = next(exact, 4)

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Write a tick."""
        del pos
        return f"{100 * x:.{self.decimals}f}"


@contextmanager
def open_canvas(height: float, *, rows: int = 1) -> Iterator[tuple[Figure, list[Axes]]]:
    """Give a figure and its axes, one above the other, with the style of all our pictures.

    Args:
        height: inches.
        rows: number of axes, which share x.
    """
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        # the reader's browser draws the text, with fonts that may know more glyphs than ours
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots(rows, 1, sharex=True, squeeze=False)
        yield figure, list(axes[:, 0])


def make_key(kind: str, name: str) -> str:
    """Make the key of a figure of a name from a file, of letters that mean nothing to HTML.

    >>> make_key("metric", "seen"), make_key("metric", 'a"b')
    ('metric-seen', 'metric-a_22b')
    """
    return f"{kind}-{re.sub('[^A-Za-z0-9-]', lambda found: f'_{ord(found[0]):x}', name)}"


def write_svg(figure: Figure, key: str, title: str, description: str) -> str:
    """Write a figure as an inline SVG with a name and a description for those who cannot see it.

    Must be called inside ``open_canvas``, whose style it needs. Ids are made unique with ``key``.
    """
    file = io.StringIO()
    FigureCanvasSVG(figure).print_svg(
        file, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    text = file.getvalue()
    text = text[text.index("<svg") :]
    box = re.search(r'viewBox="([^"]+)"', text)
    assert box is not None
    body = text[text.index(">") + 1 :].strip()
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href", "href")
    assert re.fullmatch("[A-Za-z0-9_-]+", key), key  # it becomes ids
    return (
        f'<svg role="img" aria-labelledby="{key}-title" aria-describedby="{key}-desc" '
        f'viewBox="{box[1]}" preserveAspectRatio="xMidYMid meet">'
        f'<title id="{key}-title">{escape(title)}</title>'
        f'<desc id="{key}-desc">{escape(description)}</desc>\n{_own_ids(body, key)}'
    )


def _own_ids(body: str, key: str) -> str:
    used = set(re.findall(r'href="#([^"]+)"', body)) | set(re.findall(r"url\(#([^)]+)\)", body))

    def renamed(match: re.Match[str]) -> str:
        return f' id="{key}-{match[1]}"' if match[1] in used else ""

    body = re.sub(r' id="([^"]+)"', renamed, body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{key}-\1"', body)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{key}-\1)", body)


def label_rounds(axes: Axes) -> None:
    """Label x as rounds, which are whole numbers."""
    axes.set_xlabel("round")
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))


def label_values(axes: Axes, label: str, by: Measure) -> None:
    """Label y as values of a metric; shares between 0 and 1 in percent."""
    axes.set_ylabel(label)
    if by.share:
        axes.yaxis.set_major_formatter(PercentTicks())
        axes.set_ylim(*bound_shares(axes.get_ylim(), axes.dataLim.intervaly))


def bound_shares(ends: Sequence[float], seen: Sequence[float]) -> tuple[float, float]:
    """End an axis of shares little beyond 0 and 1, where no value is beyond them.

    Args:
        ends: of the axis.
        seen: least and largest value.

    >>> bound_shares((0.945, 1.055), (1.0, 1.0)), bound_shares((-0.1, 1.3), (0.0, 1.2))
    ((0.945, 1.009), (-0.009, 1.3))
    """
    low = ends[0] if seen[0] < 0 else max(ends[0], -EDGE)
    return low, ends[1] if seen[1] > 1 else min(ends[1], 1 + EDGE)


def draw_legend(figure: Figure, axes: Axes) -> None:
    """Put the legend below the picture, in as many columns as its labels leave room for."""
    handles, names = axes.get_legend_handles_labels()
    if names:
        columns = 2 if max(len(name) for name in names) <= 18 else 1
        figure.legend(handles, names, loc="outside lower center", ncols=columns, handlelength=3.2)


def choose_colour(at: int) -> str:
    """Return the colour of a series."""
    return COLOURS[at % len(COLOURS)]


def choose_marker(at: int) -> str:
    """Return the marker of a series."""
    return MARKERS[at % len(MARKERS)]


def draw_grid(axes: Axes, axis: str) -> None:
    """Draw faint lines behind the data.

    Args:
        axes: where to draw.
        axis: ``x``, ``y`` or ``both``.
    """
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis="x" if axis == "x" else "y", color="#dddddd", linewidth=0.6)


def shorten_labels(names: Sequence[str], width: int = 14) -> list[str]:
    """Shorten names to what fits beside an axis."""
    return [name if len(name) <= width else name[: width - 3] + "..." for name in names]
