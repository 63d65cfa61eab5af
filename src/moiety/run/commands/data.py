"""``moiety data fetch``: bring data sets from their public homes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from moiety.core.errors import UsageError
from moiety.data import homes
from moiety.run.commands.arguments import parse_words
from moiety.run.commands.words import POSITIONAL
from moiety.run.echo import echo


@dataclass(frozen=True)
class DataArguments:
    """What can be said behind ``moiety data fetch``.

    Args:
        name: of the data set.
        folder: to keep it in; by default the one that MOIETY_DATA names, else one among the
            caches.
    """

    name: str = field(metadata=POSITIONAL)
    folder: Path | None = None


ABOUT = f"""Bring a data set from its public home, and check that it is the one that is known.

data sets: {", ".join(homes.HOMES)}

examples:
  moiety data fetch fashion-mnist
"""


def do_data(words: Sequence[str]) -> int:
    """Fetch."""
    if words[:1] != ["fetch"] and words[:1] not in (["-h"], ["--help"]):
        raise UsageError("say: moiety data fetch NAME")
    rest = words[1:] if words[:1] == ["fetch"] else words
    said = parse_words(DataArguments, rest, prog="data fetch", about=ABOUT)
    for path in homes.fetch_dataset(said.name, said.folder or homes.find_data_folder()):
        echo(str(path))
    home = homes.HOMES[said.name]
    echo(f"{home.source}; licence: {home.licence}")
    return 0
