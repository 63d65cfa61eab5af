"""``moiety resume``: go on with a run that stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from moiety.run.commands.arguments import parse_words
from moiety.run.commands.common import check_folder, explain_stop
from moiety.run.commands.run import finish_runs
from moiety.run.commands.words import POSITIONAL
from moiety.run.display import choose_display
from moiety.run.echo import echo_warning
from moiety.run.group import list_members, resume_runs
from moiety.run.together import Whereabouts, play_together


@dataclass(frozen=True)
class ResumeArguments:
    """What can be said behind ``moiety resume``.

    Args:
        run: folder of a run or of a group of runs.
        at: go back to the checkpoint of this round instead of the newest.
        json: print the summary as JSON.
        quiet: say nothing while it goes on; the summary and warnings are printed.
        verbose: say all that the ledger says, a line a round.
    """

    run: Path = field(metadata=POSITIONAL)
    at: int | None = None
    json: bool = False
    quiet: bool = False
    verbose: bool = False


ABOUT = """Go on with a run, or with every run of a group that is not over. What follows is bit for
bit what would have followed without the stop.

examples:
  moiety resume runs/quickstart
  moiety resume runs/quickstart/ddome-seed0 --at 50
"""


def do_resume(words: Sequence[str]) -> int:
    """Resume."""
    said = parse_words(ResumeArguments, words, prog="resume", about=ABOUT)
    display = choose_display(quiet=said.quiet, verbose=said.verbose)
    folder = check_folder(said.run)
    about = {"command": "resume", "folder": str(folder), "at": said.at}
    with play_together(about, Whereabouts(folder)) as ranks:
        try:
            played = resume_runs(folder, ranks, said.at, display)
        except KeyboardInterrupt:
            if ranks.leads:
                explain_stop(folder)
            raise
        if ranks.leads:
            if not played:
                echo_warning(f"{folder} is over; nothing to resume")
            finish_runs(list_members(folder), folder, json=said.json)
    return 0
