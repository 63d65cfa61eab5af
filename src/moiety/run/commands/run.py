"""``moiety run``: play a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from moiety.core.errors import RunError
from moiety.core.ledger import read
from moiety.engine.choose import TOGETHER
from moiety.engine.ranks import Ranks, leave
from moiety.recipes.record import Federation
from moiety.run.commands.common import check, parse, recipe_of, report_of, stopped, with_file
from moiety.run.echo import say, say_json, warn
from moiety.run.group import fresh_folder, start_group
from moiety.run.loop import LEDGER
from moiety.run.same_ranks import ranks_of

EXAMPLES = """
examples:
  moiety run quickstart
  moiety run quickstart --methods ddome --ddome.k 3 --rounds 50 --seeds 5
  moiety run yours --data table.csv --target label --population.scheme natural
  moiety run ddome-fashion --config mine.toml --engine pool --out runs/mine
"""


@dataclass(frozen=True)
class Words:
    """What can be said behind ``moiety run RECIPE``.

    Args:
        record: the recipe's fields.
        out: folder to write to; by default runs/RECIPE, numbered.
        config: a TOML file of fields (or the config.json of a run), applied before the others.
        json: print the summary as JSON.
    """

    record: Annotated[Federation, tyro.conf.arg(name="")] = field(default_factory=Federation)
    out: Path | None = None
    config: Path | None = None
    json: bool = False


def main(words: Sequence[str]) -> int:
    """Run."""
    name, recipe, rest = recipe_of(words, "run")
    record, rest = with_file(recipe.record, rest)
    about = f"{recipe.about}\n{EXAMPLES}"
    said = parse(Words, rest, prog=f"run {name}", about=about, default=Words(record))
    record = check(said.record)
    ranks = ranks_of(record)
    folder = chosen(ranks, said.out, name)
    if record.engine in TOGETHER and ranks.size == 1:
        warn(f"one rank; for more: torchrun --nproc-per-node 4 -m moiety run {name} ...")
    try:
        runs = start_group(name, record, folder)
    except KeyboardInterrupt:
        if ranks.leads:
            stopped(folder)
        leave(stopped=True)
        raise
    if ranks.leads:
        finish(runs, folder, json=said.json)
    leave()
    return 0


def chosen(ranks: Ranks, out: Path | None, name: str) -> Path:
    """Let rank 0 choose the folder for all."""
    told: Path | RunError = Path()
    if ranks.leads:
        try:
            told = fresh_folder(out, name)
        except RunError as error:
            told = error
    told = ranks.share(told)
    if isinstance(told, RunError):
        raise told
    return told


def finish(runs: Sequence[Path], folder: Path, *, json: bool) -> None:
    """Write the report and print the summary."""
    from moiety.report import summary, table  # an extra may be missing; see report_of

    page = report_of(runs, folder / "report.html")
    ledgers = [read(run / LEDGER) for run in runs]
    if json:
        say_json(
            {
                "out": str(folder),
                "report": str(page) if page else None,
                "runs": [str(run) for run in runs],
                "summary": summary(ledgers),
            }
        )
        return
    say("")
    say(table(ledgers))
    for note in dict.fromkeys(ledger.start.note for ledger in ledgers if ledger.start.note):
        say(f"\n{note}")
    say(f"\nreport: {page}" if page else f"\nruns: {folder}")
