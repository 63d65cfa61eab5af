"""Records as plain data and back: files of fields, resolved configurations, nearest names."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from moiety.core.files import DIGEST, is_intact, read_plain_file, refuse_damage

T = TypeVar("T")

FLAT = "options"
"""The field whose own fields stand beside the others, as on the command line."""


CATALOGUE = "moiety list shows all"
"""Where what there is can be seen."""

FEW = 8
"""So many names are listed whole where none is near."""


def suggest_names(name: str, known: Iterable[str], more: str = "") -> str:
    """Say which known names are nearest; where none is near, all of few, or the nearest of many.

    Args:
        name: what was said.
        known: what there is.
        more: where the others are listed.

    >>> suggest_names("ruonds", ["rounds", "seed"])
    "; did you mean 'rounds'?"
    >>> suggest_names("xyz", ["rounds", "seed"])
    '; known are rounds, seed'
    """
    known = sorted(known)
    close = suggest_nearest(name, known)
    if close or not known:
        return close
    if len(known) <= FEW:
        return f"; known are {', '.join(known)}"
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.0)
    return f"; nearest are {', '.join(near)}{f' ({more})' if more else ''}"


def suggest_nearest(name: str, known: Iterable[str]) -> str:
    """Say which known names are near; nothing where none is."""
    close = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.55)
    likeness = {one: difflib.SequenceMatcher(None, one, name).ratio() for one in close}
    close = [one for one in close if likeness[one] > 0.9 * max(likeness.values())]
    return "; did you mean " + " or ".join(map(repr, close)) + "?" if close else ""


def to_plain(record: Any) -> Any:
    """Turn a record into mappings and lists."""
    if is_dataclass(record):
        flat: dict[str, Any] = {}
        for item in fields(record):
            value = to_plain(getattr(record, item.name))
            flat.update(value if item.name == FLAT else {item.name: value})
        return flat
    return [to_plain(one) for one in record] if isinstance(record, tuple | list) else record


def override_fields(record: T, changes: Mapping[str, Any], where: str = "") -> T:
    """Replace fields of a record, nested at will.

    Args:
        record: a frozen dataclass.
        changes: field -> value, or a mapping for a nested record.
        where: the path so far, for messages.

    Raises:
        ValueError: for an unknown field (with the nearest names) or a value of another type.
    """
    known: dict[str, Any] = {item.name: getattr(record, item.name) for item in fields(record)}  # type: ignore[arg-type]
    beside = known.pop(FLAT, None)
    inner = {item.name for item in fields(beside)} if beside is not None else set()
    made: dict[str, Any] = {}
    for name, value in changes.items():
        path = f"{where}{name}"
        if name in inner:
            beside = override_fields(beside, {name: value}, where)
        elif name not in known:
            raise ValueError(f"unknown field {path!r}{suggest_names(name, [*known, *inner])}")
        elif is_dataclass(known[name]):
            if not isinstance(value, Mapping):
                raise ValueError(f"field {path!r} holds a record, got {value!r}; give its fields")
            made[name] = override_fields(known[name], value, f"{path}.")
        else:
            made[name] = fit_value(path, known[name], value)
    if inner:
        made[FLAT] = beside
    return replace(record, **made)  # type: ignore[type-var]


def list_paths(changes: Mapping[str, Any], where: str = "") -> list[str]:
    """List the dotted names of nested fields.

    >>> list_paths({"local": {"lr": 0.1}, "rounds": 3})
    ['local.lr', 'rounds']
    """
    found: list[str] = []
    for name, value in changes.items():
        inner = isinstance(value, Mapping)
        found += list_paths(value, f"{where}{name}.") if inner else [f"{where}{name}"]
    return found


def fit_value(path: str, old: Any, value: Any) -> Any:
    """Fit a value to the type of the one it replaces."""
    if isinstance(old, tuple) and isinstance(value, list | tuple):
        return tuple(fit_value(path, old[0], one) for one in value) if old else tuple(value)
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(old) is not type(value):
        raise ValueError(
            f"field {path!r} is a {type(old).__name__} ({old!r}), got {value!r}; change the value"
        )
    return value


def read_fields(path: Path) -> Mapping[str, Any]:
    """Read fields from a TOML file, or from the ``config.json`` of a run.

    Raises:
        ValueError: if it cannot be read.
    """
    with refuse_damage(f"cannot read fields from {path}", "write it as TOML"):
        text = read_plain_file(path, "give a TOML file of fields").decode()
        found = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    if not isinstance(found, dict) or not isinstance(found.get("fields", found), dict):
        raise ValueError(f"{path} holds no fields; write them as TOML, or as {{name: value}}")  # noqa: TRY004
    if DIGEST in found and not is_intact(found):
        raise ValueError(
            f"{path} was changed after a run wrote it; bring it back, or take {DIGEST!r} out of it"
        )
    return found.get("fields", found)
