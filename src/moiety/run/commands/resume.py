"""``moiety resume``: go on with a run that stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from moiety.engine.ranks import join, leave
from moiety.run.commands.common import existing, parse, stopped
from moiety.run.commands.run import finish
from moiety.run.echo import warn
from moiety.run.group import members, resume


@dataclass(frozen=True)
class Words:
    """What can be said behind ``moiety resume``.

    Args:
        run: folder of a run or of a group of runs.
        at: go back to the checkpoint of this round instead of the newest.
        json: print the summary as JSON.
    """

    run: tyro.conf.Positional[Path]
    at: int | None = None
    json: bool = False


ABOUT = """Go on with a run, or with every run of a group that is not over. What follows is bit for
bit what would have followed without the stop.

examples:
  moiety resume runs/quickstart
  moiety resume runs/quickstart/ddome-seed0 --at 50
"""


def main(words: Sequence[str]) -> int:
    """Resume."""
    said = parse(Words, words, prog="resume", about=ABOUT)
    folder = existing(said.run)
    try:
        played = resume(folder, said.at)
    except KeyboardInterrupt:
        if join().leads:
            stopped(folder)
        leave(stopped=True)
        raise
    if join().leads:
        if not played:
            warn(f"{folder} is over; nothing to resume")
        finish(members(folder), folder, json=said.json)
    leave()
    return 0
