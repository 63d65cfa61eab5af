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
VERSION = 1

NAMED = 5
"""Fields that a refusal names."""

Leaves = Mapping[str, str]
"""Dotted path -> a plain value, a kind or a digest."""


def fingerprint_leaves(leaves: Leaves) -> str:
    """Tell a run from others by all its leaves."""
    return hashlib.sha256(json.dumps(leaves, sort_keys=True).encode()).hexdigest()[:16]


def keep_settings(folder: Path, leaves: Leaves) -> None:
    """Write what a run is begun with, or compare it with what its folder was begun with.

    Raises:
        RunError: naming the fields that differ.
    """
    path = folder / SETTINGS
    if not path.exists():
        warn_of_opaque(leaves)
        settings = {"version": VERSION, "leaves": dict(leaves)}
        replace_file(path, json_to_bytes(add_digest(settings)))
        return
    raw = read_json(path)
    if not isinstance(raw, dict) or raw.get("version") != VERSION or not is_intact(raw):
        raise RunError(f"{path} was changed, or is of another version; choose another folder")
    before: Leaves = raw["leaves"]
    if before != leaves:
        told = "; ".join(write_differences(before, leaves))
        raise RunError(
            f"{folder} holds a run with other settings: {told}{explain_values(before, leaves)}. Go "
            f"on with those it began with, or choose another folder{explain_rounds(before, leaves)}"
        )


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
    """Say how a run is made that can be made longer: its schedules follow from its rounds."""
    if "how.rounds" not in list_differing(before, now):
        return ""
    return (
        "; a run is not made longer, for schedules and evaluations follow from its rounds: begin "
        "with more than are needed, and let watch= or TrainConfig.keep end it, after which another "
        "call goes on"
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
