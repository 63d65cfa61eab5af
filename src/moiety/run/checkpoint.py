"""Checkpoints: state, worker memory and the ledger's position; atomic, checked, never unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from moiety.core.checkpoints import list_checkpoints
from moiety.core.errors import RunError, suggest_checkpoint
from moiety.core.files import (
    add_digest,
    digest_bytes,
    is_intact,
    json_to_bytes,
    read_json,
    read_plain_file,
    replace_folder,
)
from moiety.core.state import State
from moiety.core.tensors import PICKLE, move_tensors, tensors_from_bytes, tensors_to_bytes
from moiety.core.types import Memory
from moiety.run.in_flight import clock_from_json, clock_to_json, list_job_tensors, move_clock

VERSION = 3
TENSORS, INDEX = "tensors.safetensors", "checkpoint.json"


@dataclass(frozen=True)
class Checkpoint:
    """All that a run needs to go on.

    Args:
        state: the server's.
        memory: the workers'.
        ledger_bytes: length of the ledger when this was written.
        score: the metric on validation rows at the last evaluation, negative where less is better,
            by which the best is kept; or None.
        fingerprint: what run this belongs to.
    """

    state: State
    memory: Mapping[int, Memory]
    ledger_bytes: int
    score: float | None
    fingerprint: str


def flatten_checkpoint(checkpoint: Checkpoint) -> list[tuple[list[str | int], Tensor]]:
    """List every tensor with its path."""
    state = checkpoint.state
    found: list[tuple[list[str | int], Tensor]] = []
    found.extend((["params", name], t) for name, t in state.params.items())
    for place, memory in (("server", state.server), ("optimizer_state", state.optimizer_state)):
        for section, tree in memory.items():
            found.extend(([place, section, name], t) for name, t in tree.items())
    for worker, memory in checkpoint.memory.items():
        for section, tree in memory.items():
            found += [(["memory", worker, section, name], t) for name, t in tree.items()]
    for one in state.clock.in_flight:
        found += list_job_tensors(one.job)
    return found


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint; it is there whole or not at all."""
    paths = flatten_checkpoint(checkpoint)
    tensors = tensors_to_bytes({str(number): t for number, (_, t) in enumerate(paths)})
    index = {
        "version": VERSION,
        "fingerprint": checkpoint.fingerprint,
        "round": checkpoint.state.round,
        "stage": checkpoint.state.stage,
        "clock": clock_to_json(checkpoint.state.clock),
        "ledger_bytes": checkpoint.ledger_bytes,
        "score": checkpoint.score,
        "sha256": digest_bytes(tensors),
        "paths": [path for path, _ in paths],
    }
    where = folder / f"{checkpoint.state.round:08d}"
    replace_folder(where, {TENSORS: tensors, INDEX: json_to_bytes(add_digest(index))})
    return where


def read_checkpoint(where: Path, fingerprint: str) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        RunError: if it is cut short or changed, of an older format, or from another recipe.
    """
    instead = suggest_checkpoint(
        [int(path.name) for path in list_checkpoints(where.parent) if path != where]
    )
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
    if not is_intact(index):
        raise RunError(f"{where} is damaged: {INDEX} was changed; {instead}")
    if index.get("fingerprint") != fingerprint:
        ours = [
            int(path.name)
            for path in list_checkpoints(where.parent)
            if read_index_quietly(path).get("fingerprint") == fingerprint
        ]
        remedy = suggest_checkpoint(
            ours, "go on with those it began with, or choose another folder"
        )
        raise RunError(
            f"{where} belongs to another recipe or other settings (its fields differ); {remedy}"
        )
    path = where / TENSORS
    data = read_plain_file(path, instead)
    if digest_bytes(data) != index.get("sha256"):
        if data.startswith(PICKLE):
            tensors_from_bytes(data, path)
        raise RunError(f"{where} is damaged: {TENSORS} was cut short or changed; {instead}")
    try:
        return assemble_checkpoint(index, tensors_from_bytes(data, path))
    except (LookupError, TypeError, AttributeError) as error:
        raise RunError(f"{where} is damaged: {INDEX} lacks {error}; {instead}") from error


def assemble_checkpoint(index: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Checkpoint:
    """Put tensors back where their paths say."""
    places = ("params", "server", "optimizer_state", "memory", "flight")
    root: dict[Any, Any] = {name: {} for name in places}
    for number, path in enumerate(index["paths"]):
        place = root
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = tensors[str(number)]
    kept = {place: root[place] for place in ("params", "server", "optimizer_state")}
    clock = clock_from_json(index["clock"], root["flight"])
    state = State(**kept, round=index["round"], stage=index["stage"], clock=clock)
    return Checkpoint(
        state, root["memory"], index["ledger_bytes"], index["score"], index["fingerprint"]
    )


def move_checkpoint(kept: Checkpoint, device: str) -> Checkpoint:
    """Move all tensors of a checkpoint, which were read to the CPU, to a device."""
    state = kept.state
    params = move_tensors(state.params, device)
    server, optimizer_state = (
        move_sections(state.server, device),
        move_sections(state.optimizer_state, device),
    )
    clock = move_clock(state.clock, device)
    state = replace(
        state,
        params=params,
        server=server,
        optimizer_state=optimizer_state,
        clock=clock,
    )
    memory = {worker: move_sections(own, device) for worker, own in kept.memory.items()}
    return replace(kept, state=state, memory=memory)


def move_sections(memory: Memory, device: str) -> Memory:
    """Move the tensors of every section."""
    return {section: move_tensors(tree, device) for section, tree in memory.items()}


def read_score(where: Path) -> float | None:
    """Read the score of a checkpoint; None where it has none or is damaged."""
    return read_index_quietly(where).get("score")


def read_index_quietly(where: Path) -> Mapping[str, Any]:
    """Read what is said of a checkpoint; nothing where it is damaged."""
    try:
        index = read_json(where / INDEX)
    except RunError:
        return {}
    return index if isinstance(index, dict) and is_intact(index) else {}
