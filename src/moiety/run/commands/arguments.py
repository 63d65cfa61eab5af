"""Records as options of the command line; their documentation is the help."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, field, fields, is_dataclass, make_dataclass, replace
from typing import Annotated, Any, TypeVar

from moiety.recipes.fields import FLAT, override_fields, to_plain

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
    """Parse words into a record; prints help and exits by itself, with 2 where they do not fit.

    Args:
        kind: of the record.
        words: of the command line.
        prog: the command.
        about: what it does, for the help.
        default: a record of this kind, or None where some fields must be given.
        shown: methods and networks whose options are offered.
    """
    if not words and default is not None:
        return default
    import tyro  # slow, and where nothing is said there is nothing to parse

    shape = make_shape(kind, default, shown)
    said = tyro.cli(shape, args=list(words), prog=f"moiety {prog}", description=about)
    return read_shape(kind, default, said)


def make_shape(kind: type, default: Any, shown: Collection[str]) -> type:
    """Make a class of types, defaults and help, so that tyro need not read any source.

    Of the field named ``options``, the records of ``shown`` stand beside the other fields.
    """
    import tyro

    hints, told = typing.get_type_hints(kind, include_extras=True), read_argument_help(kind)
    entries: list[tuple[str, Any, Any]] = []
    for item in fields(kind):
        value: Any = item.default if default is None else getattr(default, item.name)
        if item.name == FLAT:
            beside = [one.name for one in fields(value) if one.name in shown]
            entries += [make_group(name, getattr(value, name), shown, ()) for name in beside]
        elif is_dataclass(value):
            entries.append(make_group(item.name, value, shown, read_marks(hints[item.name])))
        else:
            hint = Annotated[hints[item.name], tyro.conf.arg(help=told.get(item.name, ""))]
            entries.append((item.name, hint, field() if value is MISSING else field(default=value)))
    return make_dataclass(kind.__name__, entries, frozen=True)


def make_group(
    name: str, value: Any, shown: Collection[str], marks: Sequence[Any]
) -> tuple[str, Any, Any]:
    """Make the entry of a record within a record; its help is the first line of its own."""
    import tyro

    kind = type(value)
    shape, summary = make_shape(kind, value, shown), tyro.conf.arg(help=read_summary(kind))
    hint: Any = Annotated[shape, summary]
    for mark in marks:
        hint = Annotated[hint, mark]
    return name, hint, field(default_factory=shape)


def read_marks(hint: Any) -> Sequence[Any]:
    """Read what is said of a type beside it."""
    return hint.__metadata__ if typing.get_origin(hint) is Annotated else ()


def read_shape(kind: type[T], default: T | None, said: Any) -> T:
    """Bring what tyro parsed into the record that it stands for."""
    given = {item.name: getattr(said, item.name) for item in fields(said)}
    for name, value in given.items():
        if is_dataclass(value):
            given[name] = override_fields(getattr(default, name), to_plain(value))
    made: Any = kind
    return made(**given) if default is None else replace(default, **given)  # type: ignore[type-var]


def read_summary(kind: Any) -> str:
    """Read the first line of a documentation."""
    return (inspect.getdoc(kind) or "").partition("\n")[0]


def read_argument_help(kind: Any) -> Mapping[str, str]:
    """Read what a documentation says of each argument.

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
    return told
