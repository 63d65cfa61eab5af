"""Records as options of the command line; their documentation is the help."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, field, fields, is_dataclass, make_dataclass
from typing import Annotated, Any, TypeVar

from moiety.recipes.fields import FLAT
from moiety.run.commands.words import fill_record, list_options, read_words

T = TypeVar("T")

ARGUMENT = re.compile(r"\s+Args:\n((?:    .*\n|\n)+)", re.MULTILINE)
"""The section of a documentation that tells what arguments mean."""


def parse_words(
    kind: type[T],
    words: Sequence[str],
    *,
    prog: str,
    about: str,
    default: T | None = None,
    shown: Collection[str] = (),
) -> T:
    """Parse words into a record; where help is asked for, it is printed, and the command ends.

    Args:
        kind: of the record.
        words: of the command line.
        prog: the command.
        about: what it does, for the help.
        default: a record of this kind, or None where some fields must be given.
        shown: methods and networks whose options are offered.

    Raises:
        UsageError: for words that do not fit.
    """
    if set(words) & {"-h", "--help"}:
        import tyro  # slow, and for the help alone

        shape = make_shape(kind, default, shown)
        tyro.cli(shape, args=["--help"], prog=f"moiety {prog}", description=about)
    options = list(list_options(kind, default, shown))
    return fill_record(kind, default, read_words(options, words, f"moiety {prog}"))


def make_shape(kind: type, default: Any, shown: Collection[str]) -> type:
    """Make a class of types, defaults and help, of which tyro writes the help.

    Of the field named ``options``, the records of ``shown`` stand beside the other fields.
    """
    import tyro

    hints, told = typing.get_type_hints(kind), read_argument_help(kind)
    entries: list[tuple[str, Any, Any]] = []
    for item in fields(kind):
        value: Any = item.default if default is None else getattr(default, item.name)
        if item.name == FLAT:
            beside = [one.name for one in fields(value) if one.name in shown]
            entries += [make_group(name, getattr(value, name), shown, None) for name in beside]
        elif is_dataclass(value):
            name = "" if "beside" in item.metadata else None
            entries.append(make_group(item.name, value, shown, name))
        else:
            name = item.metadata.get("name")
            said = item.metadata.get("said_as", hints[item.name])
            hint = Annotated[said, tyro.conf.arg(help=told.get(item.name, ""), name=name)]
            if "positional" in item.metadata:
                hint = tyro.conf.Positional[hint]
            entries.append((item.name, hint, field() if value is MISSING else field(default=value)))
    return make_dataclass(kind.__name__, entries, frozen=True)


def make_group(
    field_name: str, value: Any, shown: Collection[str], name: str | None
) -> tuple[str, Any, Any]:
    """Make the entry of a record within a record; its help is the first line of its own.

    Args:
        field_name: of the record.
        value: the record.
        shown: methods and networks whose options are offered.
        name: what is said before the names of its fields, if not its own.
    """
    import tyro

    kind = type(value)
    shape = make_shape(kind, value, shown)
    hint: Any = Annotated[shape, tyro.conf.arg(help=read_summary(kind), name=name)]
    return field_name, hint, field(default_factory=shape)


def read_summary(kind: Any) -> str:
    """Read the first line of a documentation."""
    return (inspect.getdoc(kind) or "").partition("\n")[0]


def read_argument_help(kind: Any) -> Mapping[str, str]:
    """Read what a documentation says of each argument; words of code in plain quotes.

    >>> def cut(cord, *, length):
    ...     '''Cut a cord.
    ...
    ...     Args:
    ...         cord: of any
    ...             stuff.
    ...         length: in metres.
    ...     '''
    >>> read_argument_help(cut)
    {'cord': 'of any stuff.', 'length': 'in metres.'}
    """
    found = ARGUMENT.search((inspect.getdoc(kind) or "") + "\n")
    told: dict[str, str] = {}
    name = ""
    for line in found[1].splitlines() if found else ():
        head = re.match(r"    (\w+): (.*)", line)
        if head:
            name = head[1]
            told[name] = head[2].strip()
        elif line.strip():
            told[name] += f" {line.strip()}"
    return {name: text.replace("``", "'") for name, text in told.items()}
