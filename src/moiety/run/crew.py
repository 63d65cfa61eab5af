"""Runs that several ranks play alike."""

from __future__ import annotations

import functools
from dataclasses import replace

from moiety.core.protocols import Merge, Method
from moiety.core.store import Local
from moiety.engine.collective import Collective, Scattered
from moiety.engine.ranks import Ranks, join, started
from moiety.merge.overlap import overlap, overlap_by_rows
from moiety.recipes.record import Federation
from moiety.run.errors import RunError

FOLDS: tuple[Merge, ...] = (overlap, overlap_by_rows)
"""Merges that look at pieces through the store alone, so that a piece may stay where it is."""


def crew_of(record: Federation) -> Ranks:
    """Join the other ranks where a record asks for them.

    Raises:
        RunError: if torchrun started several processes and the record does not use them.
    """
    if record.engine == "collective":
        return join()
    if started() and join().size > 1:
        raise RunError(
            f"torchrun started several processes, but engine={record.engine!r} uses one; "
            "say --engine collective"
        )
    return Ranks()


def folding(engine: Collective, method: Method) -> tuple[Collective, Method]:
    """Leave pieces where they are made, where the merge allows it."""
    if method.merge not in FOLDS or method.store is not Local:
        return engine, method
    store = functools.partial(Scattered, engine.ranks)
    return replace(engine, pieces=False), replace(method, store=store)
