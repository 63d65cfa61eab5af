"""The page: one HTML file without anything from outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from moiety.core.ledger import Ledger
from moiety.report.figures import make_figures
from moiety.report.files import MARK
from moiety.report.findings import (
    choose_deciding_group,
    choose_measure,
    describe_others,
    describe_seeds,
    list_warnings,
    rank_series,
    write_headline,
)
from moiety.report.frames import Summary, summarize_series
from moiety.report.grid import Grid
from moiety.report.numbers import NONE, format_seconds
from moiety.report.privacy import describe_privacy
from moiety.report.series import (
    Series,
    describe_settings,
    flatten_config,
    group_series,
    read_status,
)
from moiety.report.text import (
    describe_worst,
    list_scored_groups,
    name_columns,
    write_cells,
    write_reading,
)

ABSENT = "not set"


@dataclass(frozen=True)
class SummaryRow:
    """A row of the summary; ``best`` where no series is better on the group that decides."""

    cells: Sequence[str]
    best: bool


def render_page(ledgers: Sequence[Ledger]) -> str:
    """Write the page that compares ledgers; equal ledgers give equal pages.

    Raises:
        ValueError: if there is no ledger, or no ledger holds an evaluation.
    """
    found = group_series(ledgers)
    rows = summarize_series(found)
    order = rank_series(rows)
    recipes = list(dict.fromkeys(ledger.start.recipe for ledger in ledgers))
    source = files("moiety.report").joinpath("page.html.j2").read_text(encoding="utf8")
    page = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string(source)
    return page.render(
        mark=MARK,
        title=f"{', '.join(recipes)}: {', '.join(row.label for row in rows)}",
        headline=write_headline(rows),
        settings=describe_settings(found),
        against=describe_others(rows),
        private=describe_privacy(ledgers),
        warnings=list_warnings(ledgers, found),
        notes=list(dict.fromkeys(run.start.note for run in ledgers if run.start.note)),
        head=name_columns(list_scored_groups(rows)),
        reading=write_reading(rows),
        rows=[
            SummaryRow(
                write_cells(row, list_scored_groups(rows)),
                bool(order) and row is order[0][0],
            )
            for row in rows
        ],
        most="highest" if choose_measure(rows).sign > 0 else "lowest",
        judged=choose_deciding_group(rows),
        worst=[(row.label, describe_worst(row)) for row in rows],
        single=all(len(row.seeds) == 1 for row in rows),
        views=make_figures(found),
        runs=_runs(ledgers),
        config=_config(found, rows),
        environment=_environment(ledgers),
        commands="\n".join(dict.fromkeys(ledger.start.command for ledger in ledgers)),
    )


def _runs(ledgers: Sequence[Ledger]) -> Grid:
    rows = [
        [
            ledger.start.method,
            read_status(ledger),
            (ledger.end.reason if ledger.end else "") or "none",
            str(ledger.start.seed),
            f"{len(ledger.rounds)} of {max(len(ledger.rounds), ledger.start.rounds)}",
            f"{ledger.start.engine}, {ledger.start.device}",
            f"{ledger.start.num_seen} + {ledger.start.num_unseen}",
            f"{ledger.start.num_parameters:,}",
            format_seconds(ledger.start.common_s) if ledger.start.common_s else NONE,
            ledger.start.time,
            ledger.path.parent.name,
        ]
        for ledger in ledgers
    ]
    head = ["method", "status", "reason", "seed", "rounds", "engine"]
    head += [
        "workers (seen + unseen)",
        "parameters",
        "common expert in",
        "started",
        "folder",
    ]
    return Grid("Every run", head, rows, words=3)


def _config(found: Sequence[Series], rows: Sequence[Summary]) -> Grid:
    fields = [dict(flatten_config(one.ledgers[0].start.config)) for one in found]
    names = list(dict.fromkeys(name for one in fields for name in one))
    table = []
    for name in names:
        values = [one.get(name, ABSENT) for one in fields]
        table.append([name, "differs" if len(set(values)) > 1 else "same", *values])
    table.sort(key=lambda row: row[1] == "same")
    listed = ", ".join(f"{row.label}: {describe_seeds(row)}" for row in rows)
    caption = f"Configuration of the first seed of each method ({listed})"
    return Grid(
        caption, ["field", "compared", *(one.label for one in found)], table, words=len(found) + 2
    )


def _environment(ledgers: Sequence[Ledger]) -> Grid:
    names = list(dict.fromkeys(name for run in ledgers for name in run.start.environment))
    rows = [
        [name, "; ".join(dict.fromkeys(run.start.environment.get(name, ABSENT) for run in ledgers))]
        for name in names
    ]
    return Grid("Environment of the runs", ["name", "value"], rows, words=2)
