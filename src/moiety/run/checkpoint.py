"""Checkpoints: state, worker memory and the ledger's position; atomic, checked, never unpickled."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from moiety.core.errors import RunError, another
from moiety.core.files import (
    PICKLE,
    from_tensors,
    read_json,
    remove_folder,
    replace_folder,
    to_device,
    to_json,
    to_tensors,
)
from moiety.core.state import State
from moiety.core.types import Memory
from moiety.run.airborne import clock_from_json, clock_to, clock_to_json, under_way

VERSION = 2
TENSORS, INDEX = "tensors.safetensors", "checkpoint.json"


@dataclass(frozen=True)
class Checkpoint:
    """All that a run needs to go on.

    Args:
        state: the server's.
        memory: the workers'.
        ledger_bytes: length of the ledger when this was written.
        score: validation accuracy of the last evaluation, by which the best is kept; or None.
        mark: what run this belongs to.
    """

    state: State
    memory: Mapping[int, Memory]
    ledger_bytes: int
    score: float | None
    mark: str


def flatten(checkpoint: Checkpoint) -> list[tuple[list[str | int], Tensor]]:
    """List every tensor with its path."""
    state = checkpoint.state
    found: list[tuple[list[str | int], Tensor]] = []
    for place, tree in (("params", state.params), ("extra", state.extra)):
        found.extend(([place, name], t) for name, t in tree.items())
    for place, memory in (("outer", state.outer), ("slots", state.slots)):
        for section, tree in memory.items():
            found.extend(([place, section, name], t) for name, t in tree.items())
    for worker, memory in checkpoint.memory.items():
        for section, tree in memory.items():
            found += [(["memory", worker, section, name], t) for name, t in tree.items()]
    for one in state.clock.flight:
        found += under_way(one.job)
    return found


def write(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint; it is there whole or not at all."""
    paths = flatten(checkpoint)
    tensors = to_tensors({str(number): t for number, (_, t) in enumerate(paths)})
    index = {
        "version": VERSION,
        "mark": checkpoint.mark,
        "round": checkpoint.state.round,
        "stage": checkpoint.state.stage,
        "clock": clock_to_json(checkpoint.state.clock),
        "ledger_bytes": checkpoint.ledger_bytes,
        "score": checkpoint.score,
        "sha256": hashlib.sha256(tensors).hexdigest(),
        "paths": [path for path, _ in paths],
    }
    index["check"] = digest(index)
    where = folder / f"{checkpoint.state.round:08d}"
    replace_folder(where, {TENSORS: tensors, INDEX: to_json(index)})
    return where


def digest(index: Mapping[str, Any]) -> str:
    """Sum up all else that an index says."""
    rest = {name: value for name, value in index.items() if name != "check"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def found(folder: Path) -> list[Path]:
    """List the checkpoints of a run, oldest first."""
    return sorted(path for path in folder.glob("[0-9]*") if path.is_dir())


def read(where: Path, mark: str) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        RunError: if it is cut short or changed, of an older format, or from another recipe.
    """
    instead = another([int(path.name) for path in found(where.parent) if path != where])
    try:
        index = read_json(where / INDEX)
    except RunError as error:
        raise RunError(f"{error}; {instead}") from error
    version = index.get("version") if isinstance(index, dict) else None
    if version != VERSION:
        raise RunError(
            f"{where} has checkpoint format {version!r}, this version of moiety reads "
            f"{VERSION}; go on with the version that wrote it, or start anew"
        )
    if index.get("check") != digest(index):
        raise RunError(f"{where} is damaged: {INDEX} was changed; {instead}")
    if index["mark"] != mark:
        ours = [int(path.name) for path in found(where.parent) if known(path).get("mark") == mark]
        remedy = another(ours, "go on with those it began with, or choose another folder")
        raise RunError(
            f"{where} belongs to another recipe or other settings (its fields differ); {remedy}"
        )
    path = where / TENSORS
    data = path.read_bytes() if path.exists() else b""
    if hashlib.sha256(data).hexdigest() != index["sha256"]:
        if data.startswith(PICKLE):
            from_tensors(data, path)
        raise RunError(f"{where} is damaged: {TENSORS} was cut short or changed; {instead}")
    return assemble(index, from_tensors(data, path))


def assemble(index: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Checkpoint:
    """Put tensors back where their paths say."""
    places = ("params", "outer", "slots", "extra", "memory", "flight")
    root: dict[Any, Any] = {name: {} for name in places}
    for number, path in enumerate(index["paths"]):
        place = root
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = tensors[str(number)]
    kept = {place: root[place] for place in ("params", "outer", "slots", "extra")}
    clock = clock_from_json(index["clock"], root["flight"])
    state = State(**kept, round=index["round"], stage=index["stage"], clock=clock)
    return Checkpoint(state, root["memory"], index["ledger_bytes"], index["score"], index["mark"])


def move(kept: Checkpoint, device: str) -> Checkpoint:
    """Move all tensors of a checkpoint, which were read to the CPU, to a device."""
    state = kept.state
    params, extra = to_device(state.params, device), to_device(state.extra, device)
    outer, slots = sections(state.outer, device), sections(state.slots, device)
    clock = clock_to(state.clock, device)
    state = replace(state, params=params, outer=outer, slots=slots, extra=extra, clock=clock)
    memory = {worker: sections(own, device) for worker, own in kept.memory.items()}
    return replace(kept, state=state, memory=memory)


def sections(memory: Memory, device: str) -> Memory:
    """Move the tensors of every section."""
    return {section: to_device(tree, device) for section, tree in memory.items()}


def prune(folder: Path, last: int) -> None:
    """Keep the last few checkpoints and the one with the best score (the earliest of equals)."""
    paths = found(folder)
    scores = {path: score for path in paths if (score := known(path).get("score")) is not None}
    keep: Sequence[Path] = paths[-last:]
    best = max(scores, key=lambda path: scores[path], default=None)
    for path in paths:
        if path not in keep and path != best:
            remove_folder(path)


def known(where: Path) -> Mapping[str, Any]:
    """Read what is said of a checkpoint; nothing where it is damaged."""
    try:
        index = read_json(where / INDEX)
    except RunError:
        return {}
    return index if isinstance(index, dict) else {}


def forget(folder: Path, after: int) -> None:
    """Drop the checkpoints of later rounds, whose ledger is given up, and what kills left."""
    for path in found(folder):
        if int(path.name) > after:
            remove_folder(path)
    for path in folder.glob(".*"):
        shutil.rmtree(path)
