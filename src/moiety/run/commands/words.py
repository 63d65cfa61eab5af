"""Words of the command line, read into records; where they do not fit, one sentence says why."""

from __future__ import annotations

import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from moiety.core.errors import UsageError
from moiety.recipes.fields import FLAT, suggest_nearest

T = TypeVar("T")

POSITIONAL: Mapping[str, bool] = {"positional": True}
"""What stands beside a field that is said without a name."""
BESIDE: Mapping[str, bool] = {"beside": True}
"""What stands beside a record whose fields are said without its name."""

BY_FOLDER = ".folder"
"""An option of a network that ends so is also said by the network's name: ``--lm FOLDER``."""

EXPECTED: Mapping[type, str] = {int: "a whole number", float: "a number", Path: "a path"}


@dataclass(frozen=True)
class Option:
    """A field as the command line offers it.

    Args:
        path: where it lies in the record.
        flag: how it is said, ``--local.lr``; the name alone where it is said without one.
        hint: its type.
        value: what it is where nothing is said; ``MISSING`` where it must be said.
        marks: what stands beside the field.
    """

    path: tuple[str, ...]
    flag: str
    hint: Any
    value: Any
    marks: Mapping[str, Any] = field(default_factory=dict)

    @property
    def many(self) -> bool:
        """Say whether it takes all words up to the next option."""
        return "joined" in self.marks or typing.get_args(self.hint)[1:] == (...,)

    @property
    def off(self) -> str:
        """Say how a switch is turned off."""
        head, dot, tail = self.flag.removeprefix("--").rpartition(".")
        return f"--{head}{dot}no-{tail}"


def list_options(
    kind: Any, default: Any, shown: Collection[str], path: tuple[str, ...] = (), where: str = ""
) -> Iterator[Option]:
    """List the options of a record, nested ones by dotted names.

    Args:
        kind: of the record.
        default: a record of this kind, or None where some fields must be said.
        shown: methods and networks whose options are offered.
        path: of the record, where it lies in another.
        where: the names said before those of its fields.
    """
    hints = typing.get_type_hints(kind)
    for item in fields(kind):
        value: Any = item.default if default is None else getattr(default, item.name)
        here, name = (*path, item.name), f"{where}{item.metadata.get('name', item.name)}"
        if item.name == FLAT:
            for one in (one.name for one in fields(value) if one.name in shown):
                inner = getattr(value, one)
                yield from list_options(type(inner), inner, shown, (*here, one), f"{one}.")
        elif is_dataclass(value):
            ahead = where if "beside" in item.metadata else f"{name}."
            yield from list_options(type(value), value, shown, here, ahead)
        else:
            flag = name.upper() if "positional" in item.metadata else spell_flag(name)
            hint = item.metadata.get("said_as", hints[item.name])
            yield Option(here, flag, hint, value, item.metadata)


def spell_flag(name: str) -> str:
    """Spell a dotted name as an option."""
    return "--" + name.removeprefix("--").replace("_", "-")


Said = dict[tuple[str, ...], Any]
"""Values that were said, by the path of the field."""


def read_words(options: Sequence[Option], words: Sequence[str], prog: str) -> Said:
    """Read words as values of options.

    Raises:
        UsageError: for what is no option or no value of one, and for options that must be said.
    """
    said: Said = {}
    loose: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if not is_flag(word):
            loose.append(word)
            continue
        flag, eq, value = word.partition("=")
        option = find_option(options, flag, prog)
        if option.hint is bool:
            if eq:
                raise UsageError(f"{word} has a value; say {option.flag} or {option.off} alone")
            found: Any = spell_flag(flag) == option.flag
        else:
            found = fit_words(option, [value] if eq else take_values(option, left))
        earlier = said.get(option.path, ()) if "append" in option.marks else None
        said[option.path] = found if earlier is None else (*earlier, *found)
    said.update(place_loose([o for o in options if "positional" in o.marks], loose, prog))
    missing = [o.flag for o in options if o.value is MISSING and o.path not in said]
    if missing:
        raise UsageError(f"{prog} needs {' and '.join(missing)}; {prog} --help says more")
    return said


def find_option(options: Sequence[Option], flag: str, prog: str) -> Option:
    """Find an option by what was said.

    Raises:
        UsageError: for one that is not there, with the nearest.
    """
    named = {o.flag: o for o in options if "positional" not in o.marks}
    named |= {o.off: o for o in options if o.hint is bool}
    alone = {
        o.flag.removesuffix(BY_FOLDER): o for o in named.values() if o.flag.endswith(BY_FOLDER)
    }
    named = alone | named
    spelled = spell_flag(flag) if flag.startswith("--") else flag
    if spelled not in named:
        inner = [o.flag for o in options if o.flag.startswith(f"{spelled}.")]
        near = suggest_nearest(spelled, named) or f"; {prog} --help lists them"
        near = f"; it has {', '.join(inner)}" if inner else near
        raise UsageError(f"{flag} is no option of {prog}{near}")
    return named[spelled]


def is_flag(word: str) -> bool:
    """Say whether a word names an option; a negative number does not."""
    try:
        float(word)
    except ValueError:
        return word.startswith("-") and len(word) > 1
    return False


def take_values(option: Option, left: list[str]) -> list[str]:
    """Take the words behind an option that are its values."""
    most = len(left) if option.many else max(1, len(typing.get_args(split_none(option.hint))))
    if "append" in option.marks:
        most = 1
    taken: list[str] = []
    while left and len(taken) < most and not is_flag(left[0]):
        taken.append(left.pop(0))
    return taken


def place_loose(alone: Sequence[Option], loose: list[str], prog: str) -> Said:
    """Give words that follow no option to the fields that are said without a name."""
    said: Said = {}
    for option in alone:
        count = len(loose) if option.many else 1
        if loose:
            said[option.path], loose = fit_words(option, loose[:count]), loose[count:]
    if loose:
        raise UsageError(
            f"{' '.join(loose)!r} belongs to no option of {prog}; put the name of its "
            f"option before it ({prog} --help lists them)"
        )
    return said


def fit_words(option: Option, words: Sequence[str]) -> Any:
    """Fit words to the type of an option."""
    hint = split_none(option.hint)
    inner = typing.get_args(hint)
    if not inner:
        words = (
            [option.marks["joined"].join(words)] if words and "joined" in option.marks else words
        )
        if len(words) != 1:
            raise UsageError(f"{option.flag} has no value; {say_expected(option, hint)}")
        return fit_word(option, hint, words[0])
    if not option.many and len(words) != len(inner):
        wanted = f"{option.flag} takes {len(inner)} values, got {len(words)}"
        raise UsageError(f"{wanted}; {say_expected(option, inner[0])}")
    if "append" in option.marks and not words:
        raise UsageError(f"{option.flag} has no value; {say_expected(option, inner[0])}")
    return tuple(fit_word(option, inner[0], word) for word in words)


def split_none(hint: Any) -> Any:
    """Give what may be said where None stands for nothing said."""
    if isinstance(hint, types.UnionType):
        return next(one for one in typing.get_args(hint) if one is not types.NoneType)
    return hint


def fit_word(option: Option, kind: Any, word: str) -> Any:
    """Fit one word to a type."""
    try:
        return kind(word)
    except ValueError as error:
        said = f"{option.flag} {word!r} is not {EXPECTED.get(kind, 'a value')}"
        raise UsageError(f"{said}; {say_expected(option, kind)}") from error


def say_expected(option: Option, kind: Any) -> str:
    """Say what to give, with the default for an example."""
    value = option.value
    values = [str(one) for one in (value if isinstance(value, tuple) else [value])]
    example = " ".join([option.flag, *values])
    known = value not in (None, MISSING, (), "")
    return f"give {EXPECTED.get(kind, 'one')}{f', as in {example}' if known else ''}"


def fill_record(kind: type[T], default: T | None, said: Said) -> T:
    """Fill a record with what was said."""
    made: Any = kind
    first = {path[0]: value for path, value in said.items() if not path[1:]}
    record: T = made(**first) if default is None else default
    for path, value in said.items():
        record = put_value(record, path, value)
    return record


def put_value(record: T, path: Sequence[str], value: Any) -> T:
    """Replace a field of a record by its path."""
    head, *rest = path
    inner = put_value(getattr(record, head), rest, value) if rest else value
    return replace(record, **{head: inner})  # type: ignore[type-var]
