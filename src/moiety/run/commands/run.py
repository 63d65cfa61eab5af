"""``moiety run``: play a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from moiety.engine.agreement import flatten_fields
from moiety.engine.choose import RANK_ENGINES
from moiety.recipes.fields import to_plain
from moiety.recipes.record import Federation
from moiety.run.commands.common import (
    check_record,
    explain_stop,
    write_runs_report,
)
from moiety.run.commands.recipe import parse_recipe
from moiety.run.commands.words import BESIDE
from moiety.run.echo import echo, echo_json, echo_warning
from moiety.run.folders import hold_for_all, hold_new_folder
from moiety.run.same_ranks import check_rank_engine
from moiety.run.together import Whereabouts, play_together

EXAMPLES = """
examples:
  moiety run quickstart
  moiety run quickstart --methods ddome --ddome.k 3 --rounds 50 --seeds 5
  moiety run yours --data table.csv --target label --population.scheme natural
  moiety run ddome-fashion --config mine.toml --engine pool --out runs/mine
"""


@dataclass(frozen=True)
class RunArguments:
    """What can be said behind ``moiety run RECIPE``.

    Args:
        record: the recipe's fields.
        out: folder to write to; by default runs/RECIPE, numbered.
        config: a TOML file of fields (or the config.json of a run), applied before the others.
        json: print the summary as JSON.
        quiet: say nothing while it goes on; the summary and warnings are printed.
        verbose: say all that the ledger says, a line a round.
    """

    record: Federation = field(default_factory=Federation, metadata=BESIDE)
    out: Path | None = None
    config: Path | None = None
    json: bool = False
    quiet: bool = False
    verbose: bool = False


def do_run(words: Sequence[str]) -> int:
    """Run."""
    name, said = parse_recipe(words, "run", f"{{about}}\n{EXAMPLES}", RunArguments)
    record = check_record(said.record)
    from moiety.run.display import choose_display  # all that plays: slow, and not for --help
    from moiety.run.group import start_group

    display = choose_display(quiet=said.quiet, verbose=said.verbose)
    out = None if said.out is None else str(said.out)
    about = {"command": "run", "recipe": name, "folder": out, **flatten_fields(to_plain(record))}
    where = Whereabouts()
    with play_together(about, where) as ranks:
        check_rank_engine(record, ranks)
        if record.engine in RANK_ENGINES and ranks.size == 1:
            echo_warning(
                f"one rank; for more: torchrun --nproc-per-node 4 -m moiety run {name} ..."
            )
        try:
            with hold_for_all(ranks, hold_new_folder(said.out, name)) as folder:
                where.folder = folder
                runs = start_group(name, record, folder, ranks, display)
                if ranks.leads:
                    finish_runs(runs, folder, json=said.json)
        except KeyboardInterrupt:
            if ranks.leads:
                explain_stop(where.folder)
            raise
    return 0


def finish_runs(runs: Sequence[Path], folder: Path, *, json: bool) -> None:
    """Write the report and print the summary."""
    from moiety.core.ledger import read_ledger
    from moiety.report import format_table, summarize_runs  # an extra may be missing
    from moiety.run.loop import LEDGER

    page = write_runs_report(runs, folder / "report.html")
    ledgers = [read_ledger(run / LEDGER) for run in runs]
    if json:
        echo_json(
            {
                "out": str(folder),
                "report": str(page) if page else None,
                "runs": [str(run) for run in runs],
                "summary": summarize_runs(ledgers),
            }
        )
        return
    echo("")
    echo(format_table(ledgers))
    for note in dict.fromkeys(ledger.start.note for ledger in ledgers if ledger.start.note):
        echo(f"\n{note}")
    echo(f"\nreport: {page}" if page else f"\nruns: {folder}")
