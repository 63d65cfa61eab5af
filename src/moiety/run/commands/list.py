"""``moiety list``: methods, recipes, engines, networks, data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moiety.core.registry import read_source_summary
from moiety.data.datasets import DATASETS
from moiety.engine.names import ENGINES
from moiety.methods import METHODS, summarize_method
from moiety.models.networks import NETWORKS, summarize_network
from moiety.ops.text import align_columns
from moiety.recipes import RECIPES, REFERENCE
from moiety.run.commands.arguments import parse_words
from moiety.run.echo import echo, echo_json


@dataclass(frozen=True)
class ListArguments:
    """What can be said behind ``moiety list``.

    Args:
        json: print as JSON.
    """

    json: bool = False


def list_catalogue() -> Mapping[str, Mapping[str, str]]:
    """Say what there is, by kind and name; nothing of it is imported, nor is torch."""
    common = read_source_summary("moiety.recipes.options", "play_common")
    return {
        "methods": {**{name: summarize_method(name) for name in METHODS}, REFERENCE: common},
        "recipes": {name: line.about for name, line in RECIPES.lines.items()},
        "engines": {"auto": "whichever is faster for the model and device", **ENGINES},
        "networks": {name: summarize_network(name) for name in NETWORKS},
        "data sets": {
            name: f"{entry.about} (needs {entry.needs})" for name, entry in DATASETS.items()
        },
    }


def do_list(words: Sequence[str]) -> int:
    """List."""
    about = "List methods, recipes, engines, networks (--net) and data sets."
    said = parse_words(ListArguments, words, prog="list", about=about, default=ListArguments())
    found = list_catalogue()
    if said.json:
        echo_json(found)
        return 0
    for kind, entries in found.items():
        echo(f"{kind}:")
        echo(align_columns([[f"  {name}", about] for name, about in entries.items()]))
        echo("")
    return 0
