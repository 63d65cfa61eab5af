"""Writes the ledger, and measures what crosses the wire while jobs and replies stream by."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from moiety.core.axes import read_axis_lengths
from moiety.core.errors import RunError, explain_os_error
from moiety.core.ledger import LedgerEntry, Round, Work, encode_entry
from moiety.core.protocols import Method
from moiety.core.state import Job, Reply, State

LISTED = 64
"""Indices of an axis up to which a hand is written down."""


def append_entry(path: Path, entry: LedgerEntry) -> int:
    """Add a line; give the new length in bytes. ``sync_ledger`` makes it last."""
    try:
        with path.open("ab") as file:
            file.write(encode_entry(entry).encode() + b"\n")
            file.flush()
            return file.tell()
    except OSError as error:
        raise RunError(f"cannot write {path}: {explain_os_error(error)}") from error


def sync_ledger(path: Path) -> None:
    """Write the ledger through to the disk, so that no checkpoint is ahead of it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def cut_ledger(path: Path, length: int) -> None:
    """Forget what was written after a checkpoint."""
    if not path.exists():
        raise RunError(f"{path} is missing, and the run cannot go on without; start it anew")
    if path.stat().st_size < length:
        raise RunError(
            f"{path} is shorter than its checkpoint says ({length} bytes); it was changed: "
            "resume from an earlier checkpoint with --at, or start the run anew"
        )
    with path.open("rb+") as file:
        file.truncate(length)


@dataclass
class TrafficMeter:
    """Counts the bytes of one round; wraps the streams, holds no piece.

    Args:
        down: worker -> bytes sent to it.
        up: worker -> bytes it sent.
        replies: replies of the round, without their tensors.
        jobs: worker -> bytes of its job, where that was sent in an earlier round.
    """

    down: dict[int, int] = field(default_factory=dict)
    up: dict[int, int] = field(default_factory=dict)
    replies: list[Reply] = field(default_factory=list)
    jobs: Mapping[int, int] = field(default_factory=dict)

    def sent(self, jobs: Iterable[Job]) -> Iterator[Job]:
        """Count what goes down."""
        for job in jobs:
            self.down[job.worker] = self.down.get(job.worker, 0) + job.down_bytes
            yield job

    def count_replies(self, replies: Iterable[Reply]) -> Iterator[Reply]:
        """Count what comes up."""
        for reply in replies:
            self.up[reply.worker] = self.up.get(reply.worker, 0) + reply.up_bytes
            yield reply

    def done(self, replies: Iterable[Reply]) -> Iterator[Reply]:
        """Count what comes up, and remember what each worker did, without its tensors."""
        for reply in self.count_replies(replies):
            self.replies.append(Reply(reply.worker, reply.share, {}, record=reply.record))
            yield reply

    def make_entry(self, method: Method, state: State, seconds: float) -> Round:
        """Write the round down; ``state`` is the one after it."""
        works = [self.work(reply) for reply in self.replies]
        losses = [work.loss_mean for work in works]
        return Round(
            round=state.round,
            stage=state.stage,
            seconds=seconds,
            down_bytes=sum(self.down.values()),
            up_bytes=sum(self.up.values()),
            loss_mean=sum(losses) / max(1, len(losses)),
            workers=works,
            gate_load=compute_load(method, state, works),
            clock=state.clock.now,
        )

    def work(self, reply: Reply) -> Work:
        """Write one worker down."""
        record, parts = reply.record, reply.share.part.axes
        return Work(
            worker=reply.worker,
            role=reply.share.role,
            part={a: k.tolist() for a, k in parts.items() if len(k) <= LISTED},
            held={axis: len(kept) for axis, kept in parts.items()},
            down_bytes=self.jobs.get(reply.worker, self.down.get(reply.worker, 0)),
            up_bytes=self.up.get(reply.worker, 0),
            steps=record.steps,
            rows=record.rows,
            loss_first=record.loss_first,
            loss_last=record.loss_last,
            loss_mean=record.loss_mean,
            model_version=record.model_version,
        )


def compute_load(method: Method, state: State, works: list[Work]) -> list[float]:
    """Give the share of a round's workers that held each index of the gated axis."""
    if method.gated is None or not works:
        return []
    size = read_axis_lengths(state.params, method.model.axes)[method.gated]
    held = torch.zeros(size, dtype=torch.float64)
    for work in works:
        held[list(work.part.get(method.gated, range(size)))] += 1
    return (held / len(works)).tolist()
