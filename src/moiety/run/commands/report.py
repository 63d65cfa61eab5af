"""``moiety report``: one page from the ledgers of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from moiety.core.errors import RunError
from moiety.core.ledger import read_ledger
from moiety.run.commands.arguments import parse_words
from moiety.run.commands.common import check_folder
from moiety.run.commands.words import POSITIONAL
from moiety.run.echo import echo, echo_json
from moiety.run.group import list_members
from moiety.run.loop import LEDGER


@dataclass(frozen=True)
class ReportArguments:
    """What can be said behind ``moiety report``.

    Args:
        runs: folders of runs or groups, to compare.
        out: where to write the page; by default report.html in the first folder.
        json: print the summary as JSON.
    """

    runs: tuple[Path, ...] = field(metadata=POSITIONAL)
    out: Path | None = None
    json: bool = False


ABOUT = """Write one self-contained page that compares runs.

examples:
  moiety report runs/quickstart
  moiety report runs/quickstart runs/mine --out both.html
"""


def do_report(words: Sequence[str]) -> int:
    """Report."""
    from moiety.report import format_table, summarize_runs, write_report  # an extra may be missing

    said = parse_words(ReportArguments, words, prog="report", about=ABOUT)
    if not said.runs:
        raise RunError("name at least one run: moiety report runs/quickstart")
    runs = [run for folder in said.runs for run in list_members(check_folder(folder))]
    runs = [run for run in runs if (run / LEDGER).exists()]
    if not runs:
        raise RunError(f"no run in {', '.join(map(str, said.runs))} has started; resume it first")
    page = write_report(runs, said.out or said.runs[0] / "report.html")
    ledgers = [read_ledger(run / LEDGER) for run in runs]
    if said.json:
        echo_json({"report": str(page), "summary": summarize_runs(ledgers)})
    else:
        echo(f"{format_table(ledgers)}\n\nreport: {page}")
    return 0
