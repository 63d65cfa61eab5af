"""Whether all ranks are to play the same, and in which fields they differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

MOST_LETTERS, MOST_FIELDS = 100, 3
"""Letters of a value and fields that are told."""


def describe_disagreement(abouts: Sequence[Mapping[str, Any]]) -> str:
    """Say in which fields ranks differ, in the order of rank 0's; empty where in none.

    Args:
        abouts: of each rank, field -> value as plain data.

    >>> describe_disagreement([{"seed": 0}, {"seed": 1}, {"seed": 0}]).partition("; nothing")[0]
    'the ranks disagree on seed (0 at ranks 0, 2; 1 at rank 1)'
    """
    told = []
    for name in dict.fromkeys(name for about in abouts for name in about):
        values: dict[str, list[int]] = {}
        for rank, about in enumerate(abouts):
            text = json.dumps(about[name], ensure_ascii=False) if name in about else "nothing"
            values.setdefault(text, []).append(rank)
        if len(values) > 1:
            each = [f"{text[:MOST_LETTERS]} at {name_ranks(r)}" for text, r in values.items()]
            told.append(f"{name} ({'; '.join(each)})")
    if not told:
        return ""
    more = f" and {len(told) - MOST_FIELDS} more fields" if told[MOST_FIELDS:] else ""
    return (
        f"the ranks disagree on {', '.join(told[:MOST_FIELDS])}{more}; nothing was written: start "
        "every rank with the same command, data and versions"
    )


def name_ranks(ranks: Sequence[int]) -> str:
    """Write the numbers of some ranks.

    >>> name_ranks([0, 2]), name_ranks([1])
    ('ranks 0, 2', 'rank 1')
    """
    return f"rank{'s' if ranks[1:] else ''} {', '.join(map(str, ranks))}"


def flatten_fields(plain: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Give the fields of a record as plain data by their dotted path.

    >>> flatten_fields({"net": {"hidden": [3]}, "seed": 0})
    {'net.hidden': [3], 'seed': 0}
    """
    found: dict[str, Any] = {}
    for name, value in plain.items():
        if isinstance(value, Mapping):
            found.update(flatten_fields(value, f"{where}{name}."))
        else:
            found[f"{where}{name}"] = value
    return found
