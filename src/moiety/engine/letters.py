"""Jobs and replies as bytes that cannot run code: JSON for what is plain, safetensors for the rest.

A letter is the length of its JSON (8 bytes, the lowest first), the JSON, and the tensors, which
the JSON names by paths. Both ends check what they read: a letter may come from anybody.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from torch import Tensor

from moiety.core.axes import Part
from moiety.core.fold import Precision
from moiety.core.state import CODED, Job, Record, Reply, Share
from moiety.core.tensors import tensors_from_bytes, tensors_to_bytes
from moiety.core.types import Memory, Params

Paths: TypeAlias = Sequence[tuple[Sequence[str], Tensor]]
LENGTH = 8
"""Bytes in which the length of the JSON stands."""


def write_letter(head: Mapping[str, Any], tensors: Paths) -> bytes:
    """Write plain data and tensors.

    Args:
        head: what is plain; JSON keeps every bit of a number.
        tensors: by path.
    """
    plain = {"head": head, "paths": [list(path) for path, _ in tensors]}
    text = json.dumps(plain).encode()
    flat = {str(number): t for number, (_, t) in enumerate(tensors)}
    packed = tensors_to_bytes(flat) if flat else b""
    return len(text).to_bytes(LENGTH, "little") + text + packed


def read_letter(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what ``write_letter`` wrote.

    Returns:
        The plain data, and the tensors in mappings nested as their paths say.

    Raises:
        ValueError: for bytes that are no letter.

    >>> head, tree = read_letter(write_letter({"n": 1}, [(["piece", "w"], Tensor([2.0]))]))
    >>> head, tree["piece"]["w"].tolist()
    ({'n': 1}, [2.0])
    """
    size = int.from_bytes(data[:LENGTH], "little")
    try:
        plain = json.loads(data[LENGTH : LENGTH + size])
        rest = data[LENGTH + size :]
        found = tensors_from_bytes(rest, Path("letter")) if rest else {}
        root: dict[str, Any] = {}
        for number, path in enumerate(plain["paths"]):
            place = root
            for key in path[:-1]:
                place = place.setdefault(str(key), {})
            place[str(path[-1])] = found[str(number)]
        return dict(plain["head"]), root
    except Exception as error:  # whatever a stranger's bytes bring about
        raise ValueError(f"these bytes are no letter ({type(error).__name__}: {error})") from error


def list_sections(place: str, memory: Memory) -> list[tuple[list[str], Tensor]]:
    """List the tensors of some sections with their paths."""
    return [([place, s, name], t) for s, tree in memory.items() for name, t in tree.items()]


def write_job(job: Job, note: Mapping[str, Any]) -> bytes:
    """Write a job, with what else its worker must know; what it has already is not sent again.

    Args:
        job: to be carried out.
        note: plain data beside it.
    """
    part, sections = job.share.part, list(job.optimizer_state)
    head = {
        "note": dict(note),
        "seed": job.seed,
        "round": job.round,
        "worker": job.worker,
        "role": job.share.role,
        "names": part.names,
        "order": list(job.piece),
        "sections": sections,
        "axes": list(part.axes),
        "known": sorted(job.known),
        "code": list(job.code),
        "holders": [(w, one.names, list(one.axes)) for w, one in job.share.holders.items()],
    }
    there = job.known | job.code.get(CODED, {}).keys()
    sent = [(["piece", name], t) for name, t in job.piece.items() if name not in there]
    kept = [(["part", axis], t) for axis, t in part.axes.items()]
    code = [one for one in list_sections("code", job.code) if one[0][-1] not in job.known]
    memory = list_sections("memory", job.optimizer_state)
    parts = {str(worker): one.axes for worker, one in job.share.holders.items()}
    return write_letter(head, [*kept, *sent, *code, *memory, *list_sections("holders", parts)])


class FindKnown(Protocol):
    """Gives the tensors that the question of a round brought; the note says of which run."""

    def __call__(self, note: Mapping[str, Any], round_index: int, /) -> Params: ...


def read_job(data: bytes, find_known: FindKnown) -> tuple[Job, dict[str, Any]]:
    """Read a job; of what is coded its piece has nothing until the wire opens it.

    Args:
        data: what ``write_job`` wrote.
        find_known: gives what the worker has from the question before.

    Raises:
        ValueError: for what is no job, or one that lacks what ought to be known.
    """
    head, tree = read_letter(data)
    piece = dict(tree.get("piece", {}))
    if head["known"]:
        piece = {**find_known(head["note"], head["round"]), **piece}
    code = {section: tree.get("code", {}).get(section, {}) for section in head["code"]}
    coded = code.get(CODED, {})
    lacks = [name for name in head["order"] if name not in piece and name not in coded]
    if lacks:
        raise ValueError(f"the job lacks {lacks[:3]}, which no question brought")
    axes = tree.get("part", {})
    names = None if head["names"] is None else tuple(head["names"])
    part = Part({axis: axes[axis] for axis in head["axes"]}, names)
    share = Share(part, head["role"], read_holders(head["holders"], tree.get("holders", {})))
    memory = {section: tree.get("memory", {}).get(section, {}) for section in head["sections"]}
    ordered = {name: piece[name] for name in head["order"] if name not in coded}
    known_names = frozenset(head["known"])
    address = head["seed"], head["round"], head["worker"]
    job = Job(*address, share, ordered, memory, known_names, code)
    return job, head["note"]


def read_holders(told: Any, axes: Mapping[str, Params]) -> dict[int, Part]:
    """Read what the workers of a round hold, where a job says it."""
    return {
        int(worker): Part(
            {axis: axes[str(worker)][axis] for axis in cut}, None if names is None else tuple(names)
        )
        for worker, names, cut in told
    }


def write_reply(reply: Reply) -> bytes:
    """Write a reply."""
    part, know = reply.share.part, reply.precision
    head = {
        "worker": reply.worker,
        "role": reply.share.role,
        "names": part.names,
        "order": list(reply.piece),
        "sections": list(reply.optimizer_state),
        "code": list(reply.code),
        "scalar": know.scalar,
        "record": asdict(reply.record),
        "fault": reply.fault,
    }
    trees = {
        "part": part.axes,
        "piece": reply.piece,
        "axes": know.axes,
        "diagonal": know.diagonal,
        "answer": reply.answer,
    }
    flat = [([place, name], t) for place, tree in trees.items() for name, t in tree.items()]
    code, memory = list_sections("code", reply.code), list_sections("memory", reply.optimizer_state)
    return write_letter(head, [*flat, *code, *memory])


def read_reply(data: bytes) -> Reply:
    """Read a reply.

    Raises:
        ValueError: for what is none.
    """
    head, tree = read_letter(data)
    try:
        names = None if head["names"] is None else tuple(head["names"])
        piece = tree.get("piece", {})
        return Reply(
            int(head["worker"]),
            Share(Part(tree.get("part", {}), names), str(head["role"])),
            {name: piece[name] for name in head["order"]},
            Precision(float(head["scalar"]), tree.get("axes", {}), tree.get("diagonal", {})),
            tree.get("answer", {}),
            read_record(head["record"]),
            {s: tree.get("memory", {}).get(s, {}) for s in head["sections"]},
            str(head["fault"]),
            code={s: tree.get("code", {}).get(s, {}) for s in head["code"]},
        )
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"the letter is no reply: it lacks {error}") from error


def read_record(raw: Mapping[str, Any]) -> Record:
    """Read what a reply tells about its making; counts are numbers of at least 0.

    Raises:
        ValueError: for what is none.
    """
    record = Record(**raw)
    counts = (record.steps, record.rows, record.model_version)
    losses = (record.loss_first, record.loss_last, record.loss_mean, record.work_s)
    if not all(type(count) is int and count >= 0 for count in counts) or not all(
        isinstance(loss, float | int) for loss in losses
    ):
        raise ValueError(f"its record has no counts of at least 0, or losses that are none: {raw}")
    return record
