"""``moiety flower``: write an app of Flower that plays a recipe on nodes, and trial keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from moiety.core.errors import UsageError
from moiety.core.streams import stream
from moiety.data import datasets
from moiety.data.hub import PREFIX
from moiety.federation.certs import write_certificates
from moiety.federation.new import AppPlan, write_app
from moiety.federation.node import check_name
from moiety.recipes import RECIPES
from moiety.recipes.fields import override_fields, suggest_names
from moiety.recipes.kinds import read_rows
from moiety.recipes.options import find_method
from moiety.recipes.source import resolve_path
from moiety.run.commands.arguments import parse_words
from moiety.run.commands.words import POSITIONAL
from moiety.run.echo import echo
from moiety.run.federate import refuse_own_parameters

ABOUT = """Write an app of Flower: a recipe whose workers are nodes over a network.

examples:
  moiety flower new hospitals --workers north east south
  moiety flower new hospitals --recipe quickstart --method ddome --workers north east south
  moiety flower new hospitals --own --data sample.csv --target outcome --method fedavg
"""

ABOUT_CERTS = """Write keys to try a federation with: an authority (ca.crt), a certificate for the
server (server.pem, server.key), and for each node a key (NAME.key) and its public half (NAME.pub).

examples:
  moiety flower certs keys --hosts link.example.org --nodes north east south
"""

HELP = """usage: moiety flower new FOLDER [options]
       moiety flower certs FOLDER [options]

new    write an app of Flower that plays a recipe on nodes
certs  write trial keys and certificates

moiety flower new --help says more.
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
        data: of the recipe, or a file; those of the recipe by default.
        target: the column of the target in such a file; found by its name if empty.
        own: nodes train on rows that they alone have; the data are a sample that all have.
    """

    folder: Path = field(metadata=POSITIONAL)
    recipe: str = "quickstart"
    method: str = ""
    workers: tuple[str, ...] = ("north", "east", "south")
    rounds: int = 0
    data: str = ""
    target: str = ""
    own: bool = False


@dataclass(frozen=True)
class CertificateArguments:
    """What can be said behind ``moiety flower certs``.

    Args:
        folder: to write the keys to; must be new or empty.
        hosts: names and addresses under which nodes reach the server; this machine's own besides.
        nodes: names of the nodes.
        days: after which the certificates are of no use any more.
    """

    folder: Path = field(metadata=POSITIONAL)
    hosts: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ("north", "east", "south")
    days: int = 30


def do_flower(words: Sequence[str]) -> int:
    """Write an app, or keys."""
    if words[:1] in (["-h"], ["--help"]):
        echo(HELP)
        return 0
    if not words or words[0] not in DO:
        raise UsageError("say: moiety flower new FOLDER, or: moiety flower certs FOLDER")
    return DO[words[0]](words[1:])


def do_new(words: Sequence[str]) -> int:
    """Write the app, and say how it is started."""
    said = parse_words(FlowerArguments, words, prog="flower new", about=ABOUT)
    if said.recipe not in RECIPES:
        raise UsageError(f"unknown recipe {said.recipe!r}{suggest_names(said.recipe, RECIPES)}")
    refuse_same_names("workers", said.workers)
    if said.rounds < 0:
        raise UsageError(f"--rounds {said.rounds}: say 1 or more, or nothing for the recipe's")
    record = RECIPES[said.recipe].record
    method = said.method or record.methods[0]
    refuse_own_parameters(method, find_method(method).demo(stream(0)).method)
    data = find_data(said.data)
    fields = {key: value for key, value in (("data", data), ("target", said.target)) if value}
    if Path(data).is_file():  # a wrong column is told now, not once nodes wait
        read_rows(override_fields(record, fields))
    app = AppPlan(
        said.recipe,
        method,
        said.workers,
        said.rounds or record.rounds,
        data or record.data,
        record.population.anchors,
        fields,
        said.own,
    )
    for path in write_app(said.folder, app):
        echo(str(path))
    echo("docs/federation.md says how SuperLink and SuperNodes are started, then: flwr run")
    return 0


def find_data(name: str) -> str:
    """Say where the server finds its data: it is started by Flower, in another folder.

    Raises:
        UsageError: for a relative path to nothing.
    """
    data = resolve_path(name)
    if not name or name in datasets.DATASETS or name.startswith(PREFIX) or Path(data).is_absolute():
        return data
    raise UsageError(
        f"--data {name}: there is no such file here, and no data set is called so; name one that "
        "is here, or the full path of one that the server will have"
    )


def do_certs(words: Sequence[str]) -> int:
    """Write the keys, and say who needs which."""
    said = parse_words(CertificateArguments, words, prog="flower certs", about=ABOUT_CERTS)
    refuse_same_names("nodes", said.nodes)
    if said.days < 1:
        raise UsageError(f"--days {said.days}: say 1 or more")
    for path in write_certificates(said.folder, said.hosts, said.nodes, said.days):
        echo(str(path))
    echo(
        "the server keeps server.key, each node its own key; all have ca.crt; ca.key signs more "
        "certificates and is best kept elsewhere. These keys are for trials"
    )
    return 0


def refuse_same_names(option: str, names: Sequence[str]) -> None:
    """Refuse names of nodes that do not tell them apart, or that cannot be theirs."""
    for name in names:
        check_name(name)
    if len(set(names)) != len(names) or not names:
        raise UsageError(f"--{option} {' '.join(names)}: give each node a name of its own")


DO: Mapping[str, Callable[[Sequence[str]], int]] = {"new": do_new, "certs": do_certs}
