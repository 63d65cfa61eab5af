"""Runs that several ranks play alike."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

from moiety.core.errors import RunError
from moiety.core.protocols import Merge
from moiety.core.stage import Stage
from moiety.core.store import Local
from moiety.engine.choose import TOGETHER
from moiety.engine.collective import Collective, Scattered
from moiety.engine.ranks import Ranks, join, started
from moiety.merge.overlap import overlap, overlap_by_rows
from moiety.recipes.record import Federation

FOLDS: tuple[Merge, ...] = (overlap, overlap_by_rows)
"""Merges that look at pieces through the store alone, so that a piece may stay where it is."""


def ranks_of(record: Federation) -> Ranks:
    """Join the other ranks where a record asks for them.

    Raises:
        RunError: if torchrun started several processes and the record does not use them.
    """
    if record.engine in TOGETHER:
        return join()
    if started() and join().size > 1:
        raise RunError(
            f"torchrun started several processes, but engine={record.engine!r} uses one; "
            "say --engine collective when it begins, or go on without torchrun"
        )
    return Ranks()


def folding(engine: Collective, stages: Sequence[Stage]) -> tuple[Collective, Sequence[Stage]]:
    """Leave pieces where they are made, where the merge of every stage allows it."""
    methods = [stage.method for stage in stages]
    if any(one.merge not in FOLDS or one.store is not Local for one in methods):
        return engine, stages
    store = functools.partial(Scattered, engine.ranks)
    after = [replace(stage, method=replace(stage.method, store=store)) for stage in stages]
    return replace(engine, pieces=False), after
