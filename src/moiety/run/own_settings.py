"""What a run of one's own was begun with: kept in its folder, compared by whoever goes on."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from moiety.core.describe import OPAQUE
from moiety.core.errors import RunError
from moiety.core.files import add_digest, is_intact, json_to_bytes, read_json, replace_file
from moiety.methods.task import LocalTraining

SETTINGS = "own.json"
VERSION = 2

NAMED = 5
"""Fields that a refusal names."""

ROUNDS = "how.rounds"
"""The leaf of how many rounds there are: no number depends on it but through other leaves."""

Leaves = Mapping[str, str]
"""Dotted path -> a plain value, a kind or a digest."""


def fingerprint_leaves(leaves: Leaves) -> str:
    """Tell a run from others by all its leaves but how long it is."""
    named = {path: told for path, told in leaves.items() if path != ROUNDS}
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:16]


def keep_settings(folder: Path, leaves: Leaves, *, chooses: bool) -> None:
    """Write what a run is begun with, or compare it with what its folder was begun with.

    A run may be made longer where nothing but its number of rounds differs.

    Args:
        folder: of the run.
        leaves: what it is now.
        chooses: whether evaluations choose the final model or the end; they follow from the rounds.

    Raises:
        RunError: naming the fields that differ.
    """
    path = folder / SETTINGS
    if not path.exists():
        warn_of_opaque(leaves)
        write_settings(path, leaves)
        return
    raw = read_json(path)
    if not isinstance(raw, dict) or raw.get("version") != VERSION or not is_intact(raw):
        raise RunError(f"{path} was changed, or is of another version; choose another folder")
    before: Leaves = raw["leaves"]
    if not chooses and is_longer(before, leaves):
        write_settings(path, leaves)
    elif before != leaves:
        told = "; ".join(write_differences(before, leaves))
        raise RunError(
            f"{folder} holds a run with other settings: {told}{explain_values(before, leaves)}. Go "
            f"on with those it began with, or choose another folder{explain_rounds(before, leaves)}"
        )


def write_settings(path: Path, leaves: Leaves) -> None:
    """Write what a run is."""
    settings = {"version": VERSION, "leaves": dict(leaves)}
    replace_file(path, json_to_bytes(add_digest(settings)))


def is_longer(before: Leaves, now: Leaves) -> bool:
    """Say whether a run differs from what it was in nothing but more rounds.

    >>> is_longer({"how.rounds": "9", "how.seed": "0"}, {"how.rounds": "10", "how.seed": "0"})
    True
    """
    return list_differing(before, now) == [ROUNDS] and int(now[ROUNDS]) > int(before[ROUNDS])


def list_differing(before: Leaves, now: Leaves) -> list[str]:
    """Name the leaves in which two runs differ; of one that only one of them has, what is above."""
    paths = dict.fromkeys((*now, *before))
    return [path for path in paths if before.get(path) != now.get(path)]


def write_differences(before: Leaves, now: Leaves) -> Sequence[str]:
    """Say how two runs differ, the fields of a few in full.

    What a user said comes alone where it differs: the method made of it follows.
    """
    differing = list_differing(before, now)
    paths = [path for path in differing if not path.startswith("method.")] or differing
    told = [f"{name_setting(path)} is {now.get(path, 'missing')}, was "
            f"{before.get(path, 'missing')}" for path in paths[:NAMED]]  # fmt: skip
    more = len(paths) - NAMED
    return [*told, f"and {more} more"] if more > 0 else told


def name_setting(path: str) -> str:
    """Name a leaf of a method's solver as the field of local training that was said.

    >>> name_setting("method.solve.rules.0.1.lr"), name_setting("how.seed")
    ('LocalTraining.lr', 'how.seed')
    """
    last = path.rpartition(".")[2]
    said = path.startswith("method.solve.") and last in {one.name for one in fields(LocalTraining)}
    return f"LocalTraining.{last}" if said else path


def explain_values(before: Leaves, now: Leaves) -> str:
    """Give the usual reason where only first values differ: they were drawn anew."""
    paths = list_differing(before, now)
    drawn = [path for path in paths if "[" in now.get(path, "") and path.startswith("method.")]
    if drawn and len(drawn) == len(paths):
        return " (first values: seed torch before the module is made)"
    return ""


def explain_rounds(before: Leaves, now: Leaves) -> str:
    """Say when a run can be made longer, where somebody tried to."""
    if ROUNDS not in list_differing(before, now):
        return ""
    return (
        "; a run is made longer where nothing else differs: with a rate that falls over rounds, "
        "or a final model or an end that evaluations choose, a longer run is another one from its "
        "first round on. Begin it with all its rounds; watch= or TrainConfig.keep may end it"
    )


def warn_of_opaque(leaves: Leaves) -> None:
    """Say of what nothing can be told."""
    opaque = [path for path, told in leaves.items() if told.startswith(OPAQUE)]
    if opaque:
        warnings.warn(
            f"{opaque[:NAMED]} cannot be told from others of their type; a call that differs in "
            "them alone would go on with this run",
            stacklevel=4,
        )
