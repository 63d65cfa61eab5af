"""A recipe and the words that change it; nothing said is silently ignored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from moiety.core.errors import RunError, UsageError
from moiety.methods import METHODS
from moiety.recipes import RECIPES, RecipeEntry
from moiety.recipes.fields import CATALOGUE, list_paths, override_fields, read_fields, suggest_names
from moiety.recipes.options import RECORDS
from moiety.recipes.record import Federation, list_read
from moiety.recipes.renamed import refuse_old_names
from moiety.run.commands.arguments import parse_words
from moiety.run.commands.common import check_names
from moiety.run.echo import echo

T = TypeVar("T")

HELP_ALL = "--help-all"

MORE = """
Offered are the options of the methods and the network of this run; --help-all shows those of all,
and moiety list what there is.
"""


def parse_recipe(
    words: Sequence[str], command: str, about: str, make: Callable[[Federation], T]
) -> tuple[str, T]:
    """Parse ``RECIPE [--field value ...]``: a file of fields first, then the words, which win.

    Args:
        words: behind the command.
        command: its name.
        about: what it does; ``{about}`` is the recipe's own line.
        make: makes the record that is to be parsed of the recipe's.

    Returns:
        The recipe's name, and what was said.

    Raises:
        UsageError: for what is not there, has another name now, or is not read by this run.
    """
    name, recipe, rest = take_recipe(words, command)
    record, rest, named = apply_fields_file(recipe.record, rest)
    spoken = [word[2:].partition("=")[0] for word in rest if word.startswith("--")]
    named += spoken
    chosen = choose_read(record, rest)
    refuse_names(named, chosen)
    whole = {f"common.{one.name}" for one in fields(record.common)} <= {*named}
    refuse_training(spoken if whole else named, record)  # a run's own file says all there is
    record = drop_unread(record, rest, named)
    shown = RECORDS if HELP_ALL in rest else list_read(chosen)
    said = parse_words(
        type(made := make(record)),
        ["--help" if word == HELP_ALL else word for word in rest],
        prog=f"{command} {name}",
        about=about.format(about=recipe.about) + MORE,
        default=made,
        shown=shown,
    )
    return name, said


def take_recipe(words: Sequence[str], command: str) -> tuple[str, RecipeEntry, list[str]]:
    """Take the recipe's name off the words."""
    if not words or words[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name:18} {line.about}" for name, line in RECIPES.lines.items())
        echo(f"usage: moiety {command} RECIPE [--field value ...]\n\nrecipes:\n{lines}\n")
        echo(f"moiety {command} RECIPE --help lists the fields of a recipe.")
        raise SystemExit(0 if words else 2)
    if words[0] not in RECIPES:
        near = suggest_names(words[0], RECIPES, CATALOGUE)
        method = f"; it is a method: moiety {command} yours --methods {words[0]} --data FILE"
        raise UsageError(f"unknown recipe {words[0]!r}{method if words[0] in METHODS else near}")
    return words[0], RECIPES[words[0]], list(words[1:])


def apply_fields_file(
    record: Federation, words: Sequence[str]
) -> tuple[Federation, list[str], list[str]]:
    """Apply the file named by ``--config``.

    Returns:
        The record, the other words, and the dotted names of the fields in the file.
    """
    rest, named, words = list[str](), list[str](), list(words)
    while words:
        word = words.pop(0)
        name, eq, value = word.partition("=")
        if name != "--config":
            rest.append(word)
            continue
        if not eq and not words:
            raise UsageError("--config needs a TOML file of fields")
        try:
            changes = read_fields(Path(value if eq else words.pop(0)))
            refuse_old_names(list_paths(changes), record.net)
            record = override_fields(record, changes)
        except (RunError, ValueError) as error:
            raise UsageError(str(error)) from error
        named += list_paths(changes)
    return record, rest, named


def choose_read(record: Federation, words: Sequence[str]) -> Federation:
    """Choose methods and network as the words will, so that it is known whose options are read.

    Raises:
        UsageError: for one that is not there.
    """
    said = {name: values for name in ("methods", "net") if (values := find_values(words, name))}
    if "methods" in said:
        record = replace(record, methods=tuple(said["methods"]))
    if "net" in said:
        record = replace(record, net=said["net"][-1])
    check_names(record)
    return record


def drop_unread(record: Federation, words: Sequence[str], named: Sequence[str]) -> Federation:
    """Drop what a recipe says of local training for an optimizer or schedule that is not its own.

    What was said stays, and is refused where nothing reads it.
    """
    said = {name.replace("-", "_") for name in named}
    chosen = {
        name: values[-1]
        for name in ("optimizer", "lr_schedule")
        for spelled in (f"local.{name}", f"local.{name.replace('_', '-')}")
        if (values := find_values(words, spelled))
    }
    local = record.local.choose(**chosen)
    kept = {
        name: getattr(record.local, name)
        for name in record.local.__dataclass_fields__
        if f"local.{name}" in said and name not in chosen
    }
    return replace(record, local=replace(local, **kept))


def find_values(words: Sequence[str], option: str) -> list[str]:
    """Find the values of an option; where it is said twice, the last counts.

    >>> find_values(["--seed", "1", "--methods", "ist", "gist", "--net=gcn"], "methods")
    ['ist', 'gist']
    """
    found: list[str] = []
    reading = False
    for word in words:
        if word.startswith("--"):
            name, eq, value = word.partition("=")
            reading = name == f"--{option}"
            if reading:
                found = [value] if eq else []
        elif reading:
            found.append(word)
    return found


def refuse_names(named: Sequence[str], record: Federation) -> None:
    """Refuse options that have another name now, or that nothing in the run reads.

    Args:
        named: dotted, with underscores or hyphens.
        record: whose methods and network are those of the run.

    Raises:
        UsageError: with the remedy.
    """
    try:
        refuse_old_names(named, record.net)
    except ValueError as error:
        raise UsageError(str(error)) from error
    for name in named:
        owner, dot, option = name.replace("-", "_").partition(".")
        if not dot or owner not in RECORDS:
            continue
        known = RECORDS[owner].__dataclass_fields__
        if option.removeprefix("no_") not in known:
            raise UsageError(f"{owner} has no option --{name}{suggest_names(option, known)}")
        if owner not in list_read(record):
            raise UsageError(
                f"--{name}: the run plays {', '.join(record.methods)} on the network {record.net}, "
                f"which do not read the options of {owner}; leave it out, or take {owner} into the "
                "run (--methods, --net)"
            )


def refuse_training(named: Sequence[str], record: Federation) -> None:
    """Refuse what is said of training a common expert where one that is trained is named.

    Args:
        named: dotted, with underscores or hyphens.
        record: as far as it is known.

    Raises:
        UsageError: with the remedy.
    """
    about = [name for name in named if name.startswith("common.") and name != "common.model"]
    if about and (record.common.model or "common.model" in named):
        raise UsageError(
            f"--{about[0]} is about training a common expert, but --common.model names one that is "
            "trained; leave one of them out"
        )


def nest_value(path: str, value: Any) -> Mapping[str, Any]:
    """Nest a value by its dotted path.

    >>> nest_value("local.lr", 0.1)
    {'local': {'lr': 0.1}}
    """
    for name in reversed(path.replace("-", "_").split(".")):
        value = {name: value}
    return value
