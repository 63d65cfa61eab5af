"""Bytes and seconds of one round. What a clock says goes to the ledger and nowhere else."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from moiety.core.axes import read_axis_lengths
from moiety.core.ledger import Round, Work
from moiety.core.protocols import Method
from moiety.core.state import Job, Refusal, Reply, State
from moiety.core.transfers import Transfers

LISTED = 64
"""Indices of an axis up to which a subnet is written down."""

SECTIONS = ("split_s", "send_s", "work_s", "merge_s", "wait_s")
"""The fields of a round that say what its seconds went to."""


@dataclass
class Stopwatch:
    """Sorts the seconds of a round by what they went to; of nested sections the inner one counts.

    Args:
        transfers: of the engine, whose sending and waiting count as such in whatever section.
        section: that the time now passing goes to; "" for none.
        seconds: by section.
    """

    transfers: Transfers
    section: str = ""
    seconds: dict[str, float] = field(default_factory=lambda: {"send": 0.0, "wait": 0.0})

    def __post_init__(self) -> None:
        self.begun = self.last = time.perf_counter()
        self.first = self.before = self.transfers.read()

    def switch(self, section: str) -> str:
        """Go on with another section; give the one that was on."""
        now, found = time.perf_counter(), self.section
        passed, seconds = now - self.last, self.seconds
        if self.transfers != self.before:
            transfers = self.transfers.read()
            send = transfers.send_s - self.before.send_s
            wait = transfers.wait_s - self.before.wait_s
            seconds["send"] += send
            seconds["wait"] += wait
            passed, self.before = passed - send - wait, transfers
        seconds[found] = seconds.get(found, 0.0) + passed
        self.section, self.last = section, now
        return found

    @contextmanager
    def time(self, section: str) -> Iterator[None]:
        """Let what is done within count for a section."""
        outer = self.switch(section)
        try:
            yield
        finally:
            self.switch(outer)


@dataclass
class Meter:
    """Counts what a round costs as jobs and replies pass; holds no piece.

    Args:
        watch: of its seconds.
        down: worker -> bytes sent to it.
        up: worker -> bytes it sent.
        works: what each worker did.
        jobs: worker -> bytes of its job, where that was sent in an earlier round.
    """

    watch: Stopwatch
    down: dict[int, int] = field(default_factory=dict)
    up: dict[int, int] = field(default_factory=dict)
    works: list[Work] = field(default_factory=list)
    jobs: dict[int, int] = field(default_factory=dict)

    def count_jobs(self, jobs: Iterable[Job]) -> Iterator[Job]:
        """Count what goes down; cutting it is the time of the split."""
        outer = self.watch.switch("split")
        for job in jobs:
            self.watch.switch(outer)
            self.down[job.worker] = self.down.get(job.worker, 0) + job.down_bytes
            yield job
            outer = self.watch.switch("split")
        self.watch.switch(outer)

    def count_reply(self, reply: Reply) -> None:
        """Count what comes up."""
        self.up[reply.worker] = self.up.get(reply.worker, 0) + reply.up_bytes

    def record_work(self, reply: Reply) -> None:
        """Count what comes up, and write down what its worker did."""
        self.count_reply(reply)
        worker, record, parts = reply.worker, reply.record, reply.share.part.axes
        work = Work(
            worker=worker,
            role=reply.share.role,
            part={a: k.tolist() for a, k in parts.items() if len(k) <= LISTED},
            held={axis: len(kept) for axis, kept in parts.items()},
            down_bytes=self.jobs.get(worker, self.down.get(worker, 0)),
            up_bytes=self.up.get(worker, 0),
            steps=record.steps,
            rows=record.rows,
            loss_first=record.loss_first,
            loss_last=record.loss_last,
            loss_mean=record.loss_mean,
            model_version=record.model_version,
            work_s=record.work_s,
        )
        self.works.append(work)

    def make_round(self, method: Method, state: State, refused: Sequence[Refusal] = ()) -> Round:
        """Write the round down; ``state`` is the one after it."""
        self.watch.switch("")
        passed, losses = self.watch.seconds, [work.loss_mean for work in self.works]
        return Round(
            round=state.round,
            stage=state.stage,
            seconds=self.watch.last - self.watch.begun,
            down_bytes=sum(self.down.values()),
            up_bytes=sum(self.up.values()),
            loss_mean=sum(losses) / max(1, len(losses)),
            workers=self.works,
            gate_load=compute_load(method, state, self.works),
            clock=state.clock.now,
            split_s=passed.get("split", 0.0),
            send_s=passed["send"],
            work_s=passed.get("work", 0.0),
            merge_s=passed.get("merge", 0.0),
            wait_s=passed["wait"],
            sent_bytes=self.watch.before.sent_bytes - self.watch.first.sent_bytes,
            refused=tuple(refused),
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
