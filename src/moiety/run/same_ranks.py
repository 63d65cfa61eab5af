"""Runs that several ranks play alike."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

from moiety.core.errors import RunError
from moiety.core.protocols import Merge
from moiety.core.stage import Stage
from moiety.core.store import LocalStore
from moiety.core.wire import PLAIN_WIRE
from moiety.engine.choose import RANK_ENGINES
from moiety.engine.collective import Collective, ScatteredStore
from moiety.engine.ranks import Ranks, is_under_torchrun, join_ranks
from moiety.merge.overlap import overlap, overlap_by_rows
from moiety.recipes.record import Federation

STORE_MERGES: tuple[Merge, ...] = (overlap, overlap_by_rows)
"""Merges that look at pieces through the store alone, so that a piece may stay where it is."""


def join_recorded_ranks(record: Federation) -> Ranks:
    """Join the other ranks where a record asks for them.

    Raises:
        RunError: if torchrun started several processes and the record does not use them.
    """
    if record.engine in RANK_ENGINES:
        return join_ranks()
    check_rank_engine(record, join_ranks() if is_under_torchrun() else Ranks())
    return Ranks()


def check_rank_engine(record: Federation, ranks: Ranks) -> None:
    """Refuse several processes where a record does not use them.

    Raises:
        RunError: with the remedy.
    """
    if record.engine not in RANK_ENGINES and ranks.size > 1:
        raise RunError(
            f"torchrun started several processes, but engine={record.engine!r} uses one; "
            "say --engine collective when it begins, or go on without torchrun"
        )


def scatter_pieces(
    engine: Collective, stages: Sequence[Stage]
) -> tuple[Collective, Sequence[Stage]]:
    """Leave pieces where they are made, where the merge and the wire of every stage allow it.

    Codes go to every rank, which reads them all: they cannot be added up on the way.
    """
    methods = [stage.method for stage in stages]
    if any(
        one.merge not in STORE_MERGES or one.store is not LocalStore or one.wire is not PLAIN_WIRE
        for one in methods
    ):
        return engine, stages
    store = functools.partial(ScatteredStore, engine.ranks)
    after = [replace(stage, method=replace(stage.method, store=store)) for stage in stages]
    return replace(engine, share_pieces=False), after
