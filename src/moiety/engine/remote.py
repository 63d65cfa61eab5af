"""Jobs carried out by nodes over a network, which may be slow, away or lost.

What moves letters is passed in (``Post``), so that this engine knows no network. Every wait has a
limit of its own; a worker that is not heard of gives a reply with a ``fault``.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from moiety.core.solver import Solve
from moiety.core.state import Job, Reply
from moiety.core.transfers import Transfers
from moiety.core.types import Memory
from moiety.engine.drawer import Drawer
from moiety.engine.letters import read_reply, write_job


@dataclass(frozen=True)
class Returned:
    """What came back for a letter: bytes, or the reason why there are none."""

    data: bytes = b""
    fault: str = ""


class Post(Protocol):
    """Moves letters to nodes, which are known by name; nothing here waits."""

    def find_nodes(self) -> Mapping[str, int]:
        """Name the nodes that are here now, each with its address."""
        ...

    def send(self, node: int, letter: bytes, limit_s: float, /) -> str:
        """Send a letter that is of no use after some seconds; give the number of its answer.

        The number is empty where the letter could not be sent.
        """
        ...

    def collect(self, numbers: Sequence[str], /) -> Mapping[str, Returned]:
        """Give what has come back of some numbers."""
        ...


@dataclass(frozen=True)
class Waiting:
    """How long a round waits, by a clock on the wall; it enters no number but who took part.

    Args:
        quorum: share of a round's workers whose replies must be there before a grace time ends it.
        patience: the grace time, in medians of the seconds that jobs took so far.
        least_s: seconds that a grace time has at least.
        most_s: seconds after which a round ends, whoever is missing.
        join_s: seconds for which nodes are waited for when the run begins.
        poll_s: seconds between looks.
    """

    quorum: float = 0.5
    patience: float = 3.0
    least_s: float = 5.0
    most_s: float = 600.0
    join_s: float = 120.0
    poll_s: float = 0.5

    def __post_init__(self) -> None:
        times = (self.patience, self.least_s, self.most_s, self.join_s, self.poll_s)
        if not 0 < self.quorum <= 1 or not all(0 < one < math.inf for one in times):
            raise ValueError(
                f"{self}: choose a quorum above 0 and at most 1, and times above 0 and finite"
            )


@dataclass
class Outbox:
    """What is on its way in one round.

    Args:
        begun: when the first letter left, in seconds of a clock that only grows.
        out: number of a letter -> its job.
        done: worker -> its reply.
    """

    begun: float
    out: dict[str, Job] = field(default_factory=dict)
    done: dict[int, Reply] = field(default_factory=dict)

    @property
    def good(self) -> int:
        """How many workers have done their job."""
        return sum(not reply.fault for reply in self.done.values())


@dataclass
class Remote:
    """Run jobs at nodes; where all answer, the numbers are those of ``Serial``, bit for bit.

    Args:
        post: moves letters.
        solves: what is carried out, and how a letter calls it.
        names: of the workers, by their numbers.
        note: plain data that goes with every job: what the run is.
        waiting: how long.
        drawer: keeps the replies of the round that is being played.
        memory: empty; what workers keep stays at the nodes.
        transfers: bytes of letters, and seconds of waiting.
        job_s: seconds of the jobs that came back.
        joined: whether nodes were waited for.
    """

    post: Post
    solves: Sequence[tuple[Solve, str]]
    names: Sequence[str]
    note: Mapping[str, Any]
    waiting: Waiting
    drawer: Drawer
    memory: MutableMapping[int, Memory] = field(default_factory=dict)
    transfers: Transfers = field(default_factory=Transfers)
    job_s: list[float] = field(default_factory=list)
    joined: bool = False

    def map(self, solve: Solve, jobs: Iterable[Job], /) -> Iterator[Reply]:
        kind = next(name for one, name in self.solves if one is solve)
        here = self.join()
        box, order = Outbox(time.monotonic()), []
        for job in jobs:
            order.append(job.worker)
            self.dispatch(box, kind, job, here)
        with self.transfers.waiting():
            while box.out and not self.is_over(box, len(order)):
                self.collect(box, kind)
                if box.out:
                    time.sleep(self.waiting.poll_s)
        waited = time.monotonic() - box.begun
        for job in box.out.values():
            fault = f"no reply within {waited:.1f} s"
            box.done[job.worker] = Reply(job.worker, job.share, {}, fault=fault)
        yield from (box.done[worker] for worker in order)

    def join(self) -> Mapping[str, int]:
        """Wait for nodes: for all when the run begins, then for none that is away."""
        until = time.monotonic() + self.waiting.join_s
        here = self.post.find_nodes()
        with self.transfers.waiting():
            while time.monotonic() < until and (
                not here if self.joined else not here.keys() >= set(self.names)
            ):
                time.sleep(self.waiting.poll_s)
                here = self.post.find_nodes()
        self.joined = True
        return here

    def dispatch(self, box: Outbox, kind: str, job: Job, here: Mapping[str, int]) -> None:
        """Send a job to its worker's node, unless its reply is there from before a stop."""
        name = self.names[job.worker]
        letter = write_job(job, {**self.note, "kind": kind, "name": name})
        kept = self.drawer.find(kind, job, letter)
        if kept is not None:
            box.done[job.worker] = read_reply(kept)
        elif name not in here:
            fault = f"no node is here that calls itself {name!r}"
            box.done[job.worker] = Reply(job.worker, job.share, {}, fault=fault)
        else:
            with self.transfers.sending(len(letter)):
                number = self.post.send(here[name], letter, self.waiting.most_s)
            if not number:
                fault = f"its job of {len(letter)} bytes could not be sent"
                box.done[job.worker] = Reply(job.worker, job.share, {}, fault=fault)
                return
            box.out[number] = job
            self.drawer.expect(kind, job, letter)

    def collect(self, box: Outbox, kind: str) -> None:
        """Take in what has come back."""
        for number, returned in self.post.collect(list(box.out)).items():
            job = box.out.pop(number)
            self.transfers.sent_bytes += len(returned.data)
            reply = open_returned(job, returned)
            box.done[job.worker] = reply
            if not reply.fault:
                self.job_s.append(time.monotonic() - box.begun)
                self.drawer.keep(kind, job, returned.data)

    def is_over(self, box: Outbox, count: int) -> bool:
        """Say whether those that are missing are waited for no longer."""
        passed = time.monotonic() - box.begun
        if passed >= self.waiting.most_s:
            return True
        if not self.job_s or box.good < math.ceil(self.waiting.quorum * count):
            return False
        grace = self.waiting.patience * statistics.median(self.job_s)
        return passed >= max(self.waiting.least_s, grace)

    def close(self) -> None:
        """Hold nothing open."""


def open_returned(job: Job, returned: Returned) -> Reply:
    """Read what came back; what cannot be read is a reply with a fault."""
    fault = returned.fault
    try:
        if not fault:
            reply = read_reply(returned.data)
            if reply.worker == job.worker:
                return reply
            fault = f"it is the reply of worker {reply.worker}"
    except ValueError as error:
        fault = str(error)
    return Reply(job.worker, job.share, {}, fault=fault)
