"""A command that several ranks carry out: they join, compare, work and leave together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moiety.core.errors import RunError, ToldError, UsageError
from moiety.engine.agreement import describe_disagreement
from moiety.engine.meeting import is_first_here
from moiety.engine.ranks import RankLostError, Ranks, join_ranks, leave_ranks
from moiety.run.errors import explain_failure, is_link_lost

SHARED_S = 3.0
"""Seconds that a rank waits to hear whether rank 0 ends for the same reason."""


@dataclass
class Whereabouts:
    """Where a command stands, for whoever must say how it goes on.

    Args:
        folder: what it writes to; None before that is chosen.
    """

    folder: Path | None = None


@contextmanager
def play_together(about: Mapping[str, Any], where: Whereabouts) -> Iterator[Ranks]:
    """Join the other ranks for a command, and leave them; alone where there are none.

    Args:
        about: what this rank will do, by field, as plain data; all ranks must say the same.
        where: is kept up to date by the command.

    Raises:
        RunError: if ranks disagree, or one is lost, with what to do; the others are told why this
            one ends.
        ToldError: in place of what rank 0 raises too, where another rank of this machine tells it.
    """
    ranks = join_ranks(
        about, lambda lost, size: str(explain_failure(RankLostError(lost), where.folder, size))
    )
    try:
        yield ranks
        leave_ranks(ranks)
    except KeyboardInterrupt:
        leave_ranks(ranks, stopped=True)
        raise
    except Exception as error:
        lost = is_link_lost(error, ranks.size)
        told = explain_failure(error, where.folder, ranks.size) if lost else error
        reason, beat = str(told) or type(told).__name__, ranks.heartbeat
        alike = beat is not None and not is_first_here() and beat.ends_alike(reason, SHARED_S)
        leave_ranks(ranks, reason=reason)
        raise (ToldError(2 if isinstance(error, UsageError) else 1) if alike else told) from error


def compare_ranks(ranks: Ranks, about: Mapping[str, Any]) -> None:
    """Refuse at all ranks together where they are to play different things.

    Args:
        ranks: who plays.
        about: what this one will play, by field, as plain data.

    Raises:
        RunError: with the fields, their values, and the ranks.
    """
    wrong = describe_disagreement(ranks.gather(dict(about)))
    if wrong:
        raise RunError(wrong)
