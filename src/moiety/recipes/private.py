"""What of a recipe a private run cannot have."""

from __future__ import annotations

from collections.abc import Iterator

from moiety.privacy.config import PrivacyConfig
from moiety.privacy.crowd import require_waiting
from moiety.privacy.rows import SHARED_LABELS
from moiety.recipes.record import Federation

RANKS = ("collective", "partitioned", "peers")
"""Engines of which no process sees the change of one worker whole."""


def check_private(record: Federation) -> None:
    """Refuse choices that tell of a worker what is neither clipped nor given noise.

    Raises:
        ValueError: with the value and the remedy.
    """
    record.privacy.check()
    if record.privacy == PrivacyConfig():
        return
    schedule = record.schedule
    require_waiting(record.privacy, schedule.kind, waits=schedule.is_synchronous)
    for reason in list_private_conflicts(record):
        raise ValueError(f"{record.privacy.said}, but {reason}")
    if record.privacy.guards_rows and record.local.adjusts:
        raise ValueError(SHARED_LABELS.format(record.privacy.row_clip))


def list_private_conflicts(record: Federation) -> Iterator[str]:
    """List what does not go with privacy, each with its remedy."""
    drawn, people = record.participation, record.population
    if record.engine in RANKS:
        yield (
            f"with engine {record.engine!r} no process sees what one worker changed, or each has "
            "a key of its own; say --engine serial, vectorized or pool"
        )
    if record.secure.threshold and record.privacy.guards_workers:
        yield (
            f"with secure.threshold={record.secure.threshold} the server sees no worker's change, "
            "so it cannot clip it; leave one of them out"
        )
    if record.balance:
        yield (
            "balance weighs classes by the labels of all workers, so that one worker changes what "
            "all others learn; leave balance out"
        )
    if drawn.anchors >= 0 and people.anchors and people.scheme != "labels":
        yield (
            f"participation.anchors={drawn.anchors} draws anchors that are found by workers' rows; "
            "say --participation.anchors -1"
        )
    if record.privacy.is_secret and (drawn.fixed or drawn.chance < 1 or drawn.anchors >= 0):
        yield (
            "privacy.cohort='secret' tosses a coin for every worker alike: got "
            f"participation.fixed={drawn.fixed}, chance={drawn.chance}, anchors={drawn.anchors}; "
            "leave these out (anchors -1), or say --privacy.cohort known"
        )
