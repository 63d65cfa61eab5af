"""Whether the values of a record are of the types that its fields say."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

PLAIN = (int, float, bool, str, NoneType)


def check_types(record: Any, where: str) -> None:
    """Refuse values of other types than a record's fields say, nested records included.

    Only plain values and records are looked at; sequences, functions and protocols are not.

    Args:
        record: a dataclass.
        where: the path of the record, for the message.

    Raises:
        ValueError: with the field, its value and the type.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Box:
    ...     width: int = 1
    >>> check_types(Box("2"), "box")
    Traceback (most recent call last):
    ValueError: box.width='2' is a str; give an int
    """
    hints = get_type_hints(type(record))
    for item in fields(record):
        value, hint = getattr(record, item.name), hints[item.name]
        kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        if get_origin(hint) is tuple and not isinstance(value, tuple | list):
            raise ValueError(
                f"{where}.{item.name}={value!r} is {name_kind(type(value))}; give a tuple"
            )
        known = all(kind in PLAIN or is_record(kind) for kind in kinds)
        if known and not any(fits_kind(value, kind) for kind in kinds):
            names = " or ".join(name_kind(kind) for kind in kinds)
            told = f"{where}.{item.name}={value!r} is {name_kind(type(value))}; give {names}"
            raise ValueError(told)
        if any(is_record(kind) and isinstance(value, kind) for kind in kinds):
            check_types(value, f"{where}.{item.name}")


def is_record(kind: Any) -> bool:
    """Say whether a type is a dataclass."""
    return isinstance(kind, type) and is_dataclass(kind)


def fits_kind(value: Any, kind: type) -> bool:
    """Say whether a value may stand for a type: whole numbers for floats, truth for no number."""
    if kind in (int, float):
        wanted = Integral if kind is int else Real
        return isinstance(value, wanted) and not isinstance(value, bool)
    return isinstance(value, kind)


def name_kind(kind: type) -> str:
    """Name a type with its article."""
    name = "None" if kind is NoneType else kind.__name__
    return name if name == "None" else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
