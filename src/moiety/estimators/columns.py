"""Options that name covariates.

Letters: d covariates, D = d + 1 columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np

from moiety.mixtures.freedom import ALL_FREE, Freedom
from moiety.mixtures.logit import Array


def find_column(option: str, chosen: Any, count: int, names: Sequence[Any]) -> int:
    """Give the place of a covariate that is named by a word or a place."""
    known: list[Any] = list(names) if len(names) else list(range(count))
    if isinstance(chosen, str) and chosen in known:
        return known.index(chosen)
    if (
        isinstance(chosen, Integral)
        and not isinstance(chosen, bool)
        and int(chosen) in range(count)
    ):
        return int(chosen)
    raise ValueError(f"{option} names {chosen!r}; give covariates of {known}, or their places")


def mark_columns(option: str, chosen: Any, count: int, names: Sequence[Any]) -> Array:
    """Mark the constant and the covariates that an option names, [D]; None names all."""
    if chosen is None:
        return np.ones(count + 1, bool)
    if isinstance(chosen, str):
        raise ValueError(  # noqa: TRY004 - as all refusals here
            f"{option}={chosen!r} is one word; give a list of covariates, or []"
        )
    marks = np.zeros(count + 1, bool)
    marks[0] = True
    for one in chosen:
        marks[1 + find_column(option, one, count, names)] = True
    return marks


def share_parameters(
    free: Freedom, columns: Any, count: int, names: Sequence[Any], *, one_spread: bool
) -> Freedom:
    """Let experts share the slopes of the covariates that an option names, and their spread."""
    if columns is None:
        return replace(free, one_spread=one_spread)
    marks = mark_columns("shared_columns", columns, count, names)
    marks[0] = False
    lost = marks & ~np.array(free.experts or np.ones(count + 1), bool)
    if lost.any():
        at = int(np.flatnonzero(lost)[0]) - 1
        named = names[at] if len(names) else at
        raise ValueError(
            f"shared_columns names {named!r}, which the experts do not use; leave it out"
        )
    shared = tuple(marks.tolist()) if marks.any() else None
    return replace(free, shared=shared, one_spread=one_spread)


def average_known(x: Array, weights: Array) -> Array:
    """Give the weighted means of what is known of each covariate, [d]."""
    known = ~np.isnan(x)
    mass = weights @ known
    if not (mass > 0).all():
        lost = int(np.flatnonzero(mass <= 0)[0])
        raise ValueError(f"covariate {lost} is missing in all rows; leave it out")
    return weights @ np.where(known, x, 0.0) / mass


def choose_freedom(
    gate: Any, experts: Any, offset: Any, count: int, names: Sequence[Any]
) -> Freedom:
    """Say which columns gate and experts use, as the options name them.

    Args:
        gate: covariates of the gate; None for all, [] for a constant gate.
        experts: covariates of the experts, likewise.
        offset: a covariate whose coefficient is 1 in every expert.
        count: d.
        names: of the covariates, where they have some.
    """
    if gate is None and experts is None and offset is None:
        return ALL_FREE
    used = mark_columns("gate_columns", gate, count, names)
    own = mark_columns("expert_columns", experts, count, names)
    fixed = np.zeros(count + 1)
    if offset is not None:
        at = 1 + find_column("offset", offset, count, names)
        if experts is not None and own[at]:
            raise ValueError(f"offset={offset!r} has the coefficient 1; leave it out of the others")
        own[at], fixed[at] = False, 1.0
        used[at] &= gate is not None
    return Freedom(tuple(used.tolist()), tuple(own.tolist()), tuple(fixed.tolist()))


def check_offset_varies(offset: Any, free: Freedom, x: Array, remedy: str) -> None:
    """Refuse an offset that is the same for all rows, [N, d]; ``remedy`` says of which."""
    if offset is None:
        return
    fixed = np.array(free.fixed)[1:] != 0
    if (np.ptp(x[:, fixed], axis=0) == 0).any():
        raise ValueError(f"{offset=} is the same for all {remedy}")
