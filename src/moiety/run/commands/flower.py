"""``moiety flower new``: write an app of Flower that plays a recipe on nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from moiety.core.errors import UsageError
from moiety.federation.new import write_app
from moiety.recipes import RECIPES
from moiety.recipes.fields import suggest_names
from moiety.recipes.options import find_method
from moiety.run.commands.arguments import parse_words
from moiety.run.commands.words import POSITIONAL
from moiety.run.echo import echo

ABOUT = """Write an app of Flower: a recipe whose workers are nodes over a network.

examples:
  moiety flower new hospitals --workers north east south
  moiety flower new hospitals --recipe quickstart --method ddome --workers north east south
"""


@dataclass(frozen=True)
class FlowerArguments:
    """What can be said behind ``moiety flower new``.

    Args:
        folder: to write the app to; must be new or empty.
        recipe: that is played.
        method: of the recipe; its first by default.
        workers: names of the nodes.
        rounds: to play; those of the recipe by default.
    """

    folder: Path = field(metadata=POSITIONAL)
    recipe: str = "quickstart"
    method: str = ""
    workers: tuple[str, ...] = ("north", "east", "south")
    rounds: int = 0


def do_flower(words: Sequence[str]) -> int:
    """Write the app, and say how it is started."""
    if words[:1] != ["new"] and words[:1] not in (["-h"], ["--help"]):
        raise UsageError("say: moiety flower new FOLDER")
    rest = words[1:] if words[:1] == ["new"] else words
    said = parse_words(FlowerArguments, rest, prog="flower new", about=ABOUT)
    if said.recipe not in RECIPES:
        raise UsageError(f"unknown recipe {said.recipe!r}{suggest_names(said.recipe, RECIPES)}")
    if len(set(said.workers)) != len(said.workers) or len(said.workers) < 1:
        raise UsageError(f"--workers {' '.join(said.workers)}: give each node a name of its own")
    record = RECIPES[said.recipe].record
    method = said.method or record.methods[0]
    find_method(method)
    rounds = said.rounds or record.rounds
    for path in write_app(
        said.folder, said.recipe, method, said.workers, data=record.data, rounds=rounds
    ):
        echo(str(path))
    echo("docs/federation.md says how SuperLink and SuperNodes are started, then: flwr run")
    return 0
