"""Numbers as text, the table of the terminal and the records of ``--json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from textwrap import wrap
from typing import Any

from moiety.core.keep import VALIDATION
from moiety.core.ledger import Ledger
from moiety.report.findings import choose_measure, list_warnings, write_headline
from moiety.report.frames import (
    ORDER,
    Summary,
    describe_group,
    summarize_series,
)
from moiety.report.measure import Measure
from moiety.report.numbers import (
    NONE,
    format_bytes_spread,
    format_seconds_spread,
)
from moiety.report.privacy import describe_privacy
from moiety.report.series import group_series

WIDTH = 88  # columns of the sentences below the table

COSTS = ("bytes down", "bytes up", "bytes in all", "time", "seeds", "status")
SHORT = {
    "seen workers": "seen",
    "unseen workers": "unseen",
    "worst worker": "worst",
    "worst tenth": "tenth",
}


def write_reading(rows: Sequence[Summary]) -> str:
    """Say how the table is read."""
    by = choose_measure(rows)
    better = "" if by.sign > 0 else ", lower is better"
    return (
        f"{by.title} of the final model{better}, averaged over workers, each counting the "
        "same; the worst worker and the worst tenth are over seen and unseen ones. Bytes down and "
        "up are per worker and round."
    )


def list_scored_groups(rows: Sequence[Summary]) -> list[str]:
    """List the groups that have a column; validation rows are for choosing, not for reporting.

    Workers seen and unseen stand first, and have columns even where there are none, unless all
    are judged on rows of their own.
    """
    found = {name for row in rows for name in row.groups} - {VALIDATION}
    others = sorted(found.difference(ORDER))
    return [*(ORDER if found.intersection(ORDER) or not others else ()), *others]


def name_columns(groups: Sequence[str]) -> list[str]:
    """Name the columns."""
    worst = ["worst worker", "worst tenth"] if set(groups) & set(ORDER) else []
    return ["method", *map(describe_group, groups), *worst, *COSTS]


def write_cells(found: Summary, groups: Sequence[str]) -> list[str]:
    """Write the row of a series, one cell for each name in ``name_columns(groups)``."""
    by, judged = Measure(found.metric), set(groups) & set(ORDER)
    return [
        found.label,
        *(by.write_spread(found.groups.get(name)) for name in groups),
        *(map(by.write_spread, (found.worst, found.worst_tenth)) if judged else ()),
        format_bytes_spread(found.down_bytes),
        format_bytes_spread(found.up_bytes),
        format_bytes_spread(found.total_bytes),
        format_seconds_spread(found.seconds),
        str(len(found.seeds)),
        describe_status(found),
    ]


def describe_status(found: Summary) -> str:
    """Name how the runs of a series ended, with counts where they differ.

    A series that never trained says so, since its costs are not those of training.
    """
    names = sorted(set(found.status))
    if len(names) == 1:
        text = names[0]
    else:
        text = ", ".join(f"{found.status.count(name)} {name}" for name in names)
    return f"{text}, not trained" if found.reference else text


def format_table(ledgers: Sequence[Ledger]) -> str:
    """Write the summary as aligned plain text, the finding and any warning below it.

    Values are means over workers for the final model, each worker counting the same, then
    mean and sample standard deviation over seeds; the worst worker is over seen and unseen ones.

    Raises:
        ValueError: if there is no ledger, or no ledger holds an evaluation.
    """
    found = group_series(ledgers)
    rows = summarize_series(found)
    groups = list_scored_groups(rows)
    short = [SHORT.get(name, name) for name in name_columns(groups)]
    lines = align_cells([short, *(write_cells(row, groups) for row in rows)])
    sentences = [
        write_reading(rows),
        write_headline(rows),
        *list_warnings(ledgers, found),
        *describe_privacy(ledgers),
    ]
    return "\n".join([*lines, "", *(line for text in sentences for line in wrap(text, WIDTH))])


def align_cells(rows: Sequence[Sequence[str]]) -> list[str]:
    """Pad cells to columns: the first and last to the left, the others to the right.

    >>> align_cells([["a", "b", "c"], ["long", "1", "d"]])
    ['a     b  c', 'long  1  d']
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    end = len(widths) - 1
    return [
        "  ".join(
            cell.ljust(width) if at in (0, end) else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def summarize_runs(ledgers: Sequence[Ledger]) -> list[dict[str, Any]]:
    """Return the summary of every series as plain values, exact and without units in text.

    Raises:
        ValueError: if there is no ledger, or no ledger holds an evaluation.
    """
    return [asdict(row) for row in summarize_series(group_series(ledgers))]


def describe_worst(found: Summary) -> str:
    """Say which worker was worst in each run.

    Returns ``none`` where no worker had rows to be judged on.
    """
    named = []
    for score in found.worst_workers:
        said, who = Measure(found.metric).write_value(score.value), score.name or score.worker
        named.append(f"seed {score.seed}: {score.group} worker {who} ({said})")
    return "; ".join(named) or NONE
