"""Jobs carried out by nodes over a network, which may be slow, away or lost.

What moves letters is passed in (``Post``), so that this engine knows no network. Every wait has a
limit of its own; a worker that is not heard of gives a reply with a ``fault``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from moiety.core.courier import Landed
from moiety.core.solver import Solve
from moiety.core.state import Job, Reply
from moiety.core.transfers import Transfers
from moiety.core.types import Memory
from moiety.engine.drawer import Drawer
from moiety.engine.letters import read_reply, write_job
from moiety.engine.patience import Waiting
from moiety.engine.post import Post, Returned

PLAIN: Mapping[str, Any] = {}
"""What goes with a letter beside what goes with all."""


@dataclass
class Outbox:
    """What is on its way in one round.

    Args:
        begun: when the first letter left, in seconds of a clock that only grows.
        out: number of a letter -> its job.
        done: worker -> its reply.
        least: so many are waited for as long as for any, whatever the quorum.
    """

    begun: float
    out: dict[str, Job] = field(default_factory=dict)
    done: dict[int, Reply] = field(default_factory=dict)
    least: int = 0

    @property
    def good(self) -> int:
        """How many workers have done their job."""
        return sum(not reply.fault for reply in self.done.values())


@dataclass(frozen=True)
class Flight:
    """A job under way that no round waits for, its kind, and when it was sent."""

    job: Job
    kind: str
    begun: float


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
        job_s: seconds of the jobs that came back, by kind.
        joined: whether nodes were waited for.
        silent: number of a letter that was given up -> the name of the node that did not answer
            it. Such a node is asked again, but waited for no more until it has answered something.
        air: jobs under way that no round waits for.
        oldest: round of the oldest of them, where there may be some.
    """

    post: Post
    solves: Sequence[tuple[Solve, str]]
    names: Sequence[str]
    note: Mapping[str, Any]
    waiting: Waiting
    drawer: Drawer
    memory: MutableMapping[int, Memory] = field(default_factory=dict)
    transfers: Transfers = field(default_factory=Transfers)
    job_s: dict[str, list[float]] = field(default_factory=dict)
    joined: bool = False
    silent: dict[str, str] = field(default_factory=dict)
    air: dict[str, Flight] = field(default_factory=dict)
    oldest: int | None = None

    def map(self, solve: Solve, jobs: Iterable[Job], /) -> Iterator[Reply]:
        kind = next(name for one, name in self.solves if one is solve)
        yield from self.exchange(kind, jobs, PLAIN)

    def exchange(
        self, kind: str, jobs: Iterable[Job], more: Mapping[str, Any], least: int = 0
    ) -> Iterator[Reply]:
        """Send letters and wait for the answers; they come in the order of the jobs.

        Args:
            kind: how the letters call what is carried out.
            jobs: to be sent.
            more: plain data that goes with each of them.
            least: how many answers are of no use if fewer.
        """
        here = self.join()
        box, order = Outbox(time.monotonic(), least=least), []
        for job in jobs:
            order.append(job.worker)
            self.drawer.drop_before(job.round if self.oldest is None else self.oldest)
            self.dispatch(box, kind, job, here, more)
        with self.transfers.waiting():
            while box.out and not self.is_over(box, kind, len(order)):
                self.collect(box, kind)
                if box.out:
                    time.sleep(self.waiting.poll_s)
        self.give_up(box)
        yield from (box.done[worker] for worker in order)

    def give_up(self, box: Outbox) -> None:
        """Write down those that did not answer in time."""
        waited = time.monotonic() - box.begun
        for number, job in box.out.items():
            fault = f"no reply within {waited:.1f} s"
            box.done[job.worker] = Reply(job.worker, job.share, {}, fault=fault)
            self.silent[number] = self.names[job.worker]

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

    def dispatch(
        self,
        box: Outbox,
        kind: str,
        job: Job,
        here: Mapping[str, int],
        more: Mapping[str, Any] = PLAIN,
    ) -> None:
        """Send a job to its worker's node, unless its reply is there from before a stop."""
        name = self.names[job.worker]
        letter = write_job(job, {**self.note, **more, "kind": kind, "name": name})
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
        """Take in what has come back; of letters that were given up, that their nodes answer."""
        late = self.post.collect(list(self.silent)) if self.silent else {}
        heard = {self.silent[number] for number in late}
        for number, returned in self.post.collect(list(box.out)).items():
            job = box.out.pop(number)
            self.transfers.sent_bytes += len(returned.data)
            reply = open_returned(job, returned)
            box.done[job.worker] = reply
            if not reply.fault:
                heard.add(self.names[job.worker])
                self.job_s.setdefault(kind, []).append(time.monotonic() - box.begun)
                self.drawer.keep(kind, job, returned.data)
        self.silent = {n: name for n, name in self.silent.items() if name not in heard}

    def is_over(self, box: Outbox, kind: str, count: int) -> bool:
        """Say whether those that are missing are waited for no longer."""
        passed = time.monotonic() - box.begun
        if passed >= self.waiting.most_s:
            return True
        if box.good < max(box.least, math.ceil(self.waiting.quorum * count)):
            return False
        names = {self.names[job.worker] for job in box.out.values()}
        if names <= set(self.silent.values()):
            return True
        known = self.job_s.get(kind)
        return bool(known) and passed >= self.waiting.find_grace(known)

    def find_absent(self) -> set[int]:
        """Name the workers whose nodes are not here."""
        here = self.join()
        return {worker for worker, name in enumerate(self.names) if name not in here}

    def send_out(self, solve: Solve, jobs: Sequence[Job], oldest: int, /) -> Landed:
        """Send jobs that are not under way, and wait for none; give those that are there already.

        Args:
            solve: what is carried out.
            jobs: after a stop also those that were under way.
            oldest: round before which no reply is needed any more.
        """
        self.oldest = oldest
        kind = next(name for one, name in self.solves if one is solve)
        out = {flight.job.worker for flight in self.air.values()}
        box, here = Outbox(time.monotonic()), self.post.find_nodes()
        for job in jobs:
            if job.worker not in out:
                self.dispatch(box, kind, job, here)
        self.air |= {number: Flight(job, kind, box.begun) for number, job in box.out.items()}
        return sort_landed(box.done.values())

    def wait_for_any(self, limit_s: float, /) -> Landed:
        """Wait until something comes of what is under way, or is lost, or the time is over."""
        until, done = time.monotonic() + limit_s, list[Reply]()
        with self.transfers.waiting():
            while self.air and not done:
                done = [*self.collect_flights(), *self.lose_flights()]
                if not done:
                    if time.monotonic() >= until:
                        break
                    time.sleep(self.waiting.poll_s)
        return sort_landed(done)

    def collect_flights(self) -> Iterator[Reply]:
        """Take in what has come back of what is under way."""
        for number, returned in self.post.collect(list(self.air)).items():
            flight = self.air.pop(number)
            self.transfers.sent_bytes += len(returned.data)
            reply = open_returned(flight.job, returned)
            if not reply.fault:
                self.drawer.keep(flight.kind, flight.job, returned.data)
            yield reply

    def lose_flights(self) -> Iterator[Reply]:
        """Give up what has been under way too long."""
        now, most = time.monotonic(), self.waiting.most_s
        late = [number for number, one in self.air.items() if now - one.begun >= most]
        for number in late:
            job = self.air.pop(number).job
            yield Reply(job.worker, job.share, {}, fault=f"no reply within {most:.1f} s")

    def close(self) -> None:
        """Hold nothing open."""


def sort_landed(replies: Iterable[Reply]) -> Landed:
    """Tell who is back, and who is lost and why."""
    told = {reply.worker: reply.fault for reply in replies}
    back = frozenset(worker for worker, fault in told.items() if not fault)
    return Landed(back, {worker: fault for worker, fault in told.items() if fault})


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
