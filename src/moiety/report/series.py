"""Runs that differ in their seed alone form a series; everything is compared by series."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moiety.core.ledger import Ledger, Start

PER_RUN = ("seed", "seeds", "out")  # fields of a configuration that do not make another series
SHOWN = 3  # fields in a label at most


@dataclass(frozen=True)
class Series:
    """Runs of one method and configuration, by seed; ``reference`` where nothing was trained."""

    label: str
    method: str
    reference: bool
    ledgers: Sequence[Ledger]


def flatten_config(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Flatten nested fields to dotted names.

    >>> list(flatten_config({"a": {"b": 1}, "c": "x"}))
    [('a.b', '1'), ('c', 'x')]
    """
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flatten_config(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)


def list_traits(start: Start) -> dict[str, str]:
    """What tells one series of a method from another: the recipe and the configuration."""
    fields = {name: value for name, value in flatten_config(start.config) if name not in PER_RUN}
    return {"recipe": start.recipe, **fields}


def group_series(ledgers: Sequence[Ledger]) -> list[Series]:
    """Group ledgers into series, in the order in which they first appear.

    A seed that appears twice with the same configuration opens another series, so that a run
    given twice never narrows a spread.

    Raises:
        ValueError: if there is no ledger, or no ledger holds an evaluation.
    """
    if not ledgers:
        raise ValueError("no ledgers to report on; name at least one run")
    evaluated = [ledger for ledger in ledgers if ledger.evaluations]
    if not evaluated:
        names = ", ".join(str(ledger.path) for ledger in ledgers)
        raise ValueError(f"no evaluation in {names}; a report needs a run with at least one")
    grouped: dict[tuple[str, str, int], list[Ledger]] = {}
    for ledger in evaluated:
        kind = json.dumps(sorted(list_traits(ledger.start).items()))
        turn = 0
        while any(
            ledger.start.seed == other.start.seed
            for other in grouped.get((ledger.start.method, kind, turn), ())
        ):
            turn += 1
        grouped.setdefault((ledger.start.method, kind, turn), []).append(ledger)
    groups = [sorted(group, key=lambda one: one.start.seed) for group in grouped.values()]
    names = label_series([group[0].start for group in groups])
    return [_series(name, group) for name, group in zip(names, groups, strict=True)]


def _series(label: str, group: Sequence[Ledger]) -> Series:
    trained = any(ledger.rounds for ledger in group)
    return Series(label, group[0].start.method, not trained, tuple(group))


def label_series(starts: Sequence[Start]) -> list[str]:
    """Name every series by its method and, where methods repeat, by the fields that differ."""
    names = [_label(start, starts) for start in starts]
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return unique


def _label(start: Start, starts: Sequence[Start]) -> str:
    same = [list_traits(other) for other in starts if other.method == start.method]
    mine = list_traits(start)
    varying = [name for name in mine if len({other.get(name) for other in same}) > 1]
    if not varying:
        return start.method
    shown = [f"{name}={mine[name]}" for name in varying[:SHOWN]]
    return f"{start.method} ({', '.join(shown)}{', ...' if len(varying) > SHOWN else ''})"


SETTINGS = (
    "data", "net", "rounds", "group", "population.scheme", "population.workers",
    "population.unseen", "participation.size", "local.optimizer", "local.lr", "local.batch",
    "local.epochs", "local.steps", "schedule.kind", "size",
)  # fmt: skip
"""Fields that a reader asks for first."""


def describe_settings(found: Sequence[Series]) -> str:
    """Say in one line what all series have in common of the settings asked for first."""
    fields = [dict(flatten_config(one.ledgers[0].start.config)) for one in found]
    named = [name for name in SETTINGS if len({one.get(name) for one in fields}) == 1]
    if fields[0].get("group"):  # then a column says who holds what
        named = [name for name in named if not name.startswith("population.")]
    shown = [(name, fields[0].get(name)) for name in named]
    told = [f"{name} {value}" for name, value in shown if value not in (None, "", "0")]
    start = found[0].ledgers[0].start
    return ", ".join([*told, f"engine {start.engine}", f"device {start.device}"])


def read_status(ledger: Ledger) -> str:
    """Name how a run ended; a ledger without an end is ``unfinished``: running, or cut off."""
    return "unfinished" if ledger.end is None else ledger.end.status
