"""Workers spread over the cores, each stepping in place with ordinary autograd."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Any

import torch

from moiety.core.rows import OpenRows
from moiety.core.solver import Solve
from moiety.core.state import Job, Reply
from moiety.core.types import Memory
from moiety.engine.channel import Channel
from moiety.engine.work import run_job, run_steps_in_place, use_one_thread

JOBS_AHEAD = 2
"""Jobs in flight per process: one at work, one waiting, so that none idles on the wire."""


def count_cores() -> int:
    """Count the cores this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass
class Pool:
    """Run jobs on several processes; the numbers are those of ``Serial``, bit for bit.

    Args:
        open: opens the rows of a worker.
        memory: what workers kept.
        processes: number of processes; None takes one per core, 1 stays in this process.
    """

    open: OpenRows
    memory: MutableMapping[int, Memory] = field(default_factory=dict)
    processes: int | None = None
    teams: dict[int, Team] = field(default_factory=dict)

    def map(self, solve: Solve, jobs: Iterable[Job], /) -> Iterator[Reply]:
        count = self.processes or count_cores()
        replies = self.run_here(solve, jobs) if count == 1 else self.run_there(solve, jobs, count)
        for reply, after in replies:
            if after:
                self.memory[reply.worker] = after
            yield reply

    def run_here(self, solve: Solve, jobs: Iterable[Job]) -> Iterator[tuple[Reply, Memory]]:
        """Run jobs in this process."""
        with use_one_thread():
            for job in jobs:
                kept = self.memory.get(job.worker, {})
                yield run_job(solve, job, self.open(job.worker), kept, run_steps_in_place)

    def run_there(
        self, solve: Solve, jobs: Iterable[Job], count: int
    ) -> Iterator[tuple[Reply, Memory]]:
        """Run jobs on the processes of this solver, started when first needed."""
        if id(solve) not in self.teams:
            lines = [line.end for team in self.teams.values() for line in team.lines]
            self.teams[id(solve)] = Team.start(solve, self.open, count, lines)
        with_memory = ((job, self.memory.get(job.worker, {})) for job in jobs)
        yield from self.teams[id(solve)].map(with_memory)

    def close(self) -> None:
        """End the processes."""
        for team in self.teams.values():
            team.stop()
        self.teams.clear()


@dataclass
class Team:
    """Processes that know one solver and the data; holding ``solve`` keeps its id its own."""

    solve: Solve
    lines: list[Channel]
    members: list[BaseProcess]

    @staticmethod
    def start(solve: Solve, open_rows: OpenRows, count: int, known: list[Connection]) -> Team:
        """Start the processes, by fork where the system has it, so that data are shared.

        A forked process must close the parent's ends of all lines, those ``known`` from other
        teams too, or no process would notice that the parent is gone.
        """
        context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        lines: list[Channel] = []
        members = []
        with warnings.catch_warnings():
            # A fork of a process with threads is warned of; the child only computes, in one thread.
            warnings.simplefilter("ignore", DeprecationWarning)
            for _ in range(count):
                near, far = context.Pipe()
                others = [*known, *(line.end for line in lines), near]
                member = context.Process(
                    target=answer_jobs, args=(solve, open_rows, far, others), daemon=True
                )
                member.start()
                far.close()
                lines.append(Channel(near))
                members.append(member)
        return Team(solve, lines, members)

    def map(self, jobs: Iterable[tuple[Job, Memory]]) -> Iterator[tuple[Reply, Memory]]:
        """Run jobs; replies in the order of the jobs."""
        queue = enumerate(jobs)
        done: dict[int, Any] = {}
        busy = dict.fromkeys(range(len(self.lines)), 0)
        place = 0
        try:
            for member in list(busy) * JOBS_AHEAD:
                self.send_job(queue, member, busy)
            while any(busy.values()):
                for member in self.ready(busy):
                    number, done[number] = self.receive_reply(member, busy)
                    self.send_job(queue, member, busy)
                while place in done:
                    answer = done.pop(place)
                    place += 1
                    if isinstance(answer, BaseException):
                        raise answer
                    yield answer
        finally:
            self.drain(busy)

    def ready(self, busy: dict[int, int]) -> list[int]:
        """Wait until some of the busy processes have answered, and name them."""
        ends = {id(self.lines[member].end): member for member, count in busy.items() if count}
        found = wait([self.lines[member].end for member in ends.values()])
        return [ends[id(end)] for end in found]

    def send_job(
        self, queue: Iterator[tuple[int, tuple[Job, Memory]]], member: int, busy: dict[int, int]
    ) -> None:
        """Give a process its next job, if there is one."""
        item = next(queue, None)
        if item is not None:
            try:
                self.lines[member].send(item)
            except ConnectionError as error:
                raise self.lost(member) from error
            busy[member] += 1

    def receive_reply(self, member: int, busy: dict[int, int]) -> tuple[int, Any]:
        """Read one answer."""
        try:
            answer = self.lines[member].recv()
        except (EOFError, ConnectionError) as error:
            busy[member] = 0
            raise self.lost(member) from error
        busy[member] -= 1
        return answer

    def lost(self, member: int) -> RuntimeError:
        """Say that a process is gone."""
        self.members[member].join(timeout=1)
        code = self.members[member].exitcode
        return RuntimeError(
            f"a process of the pool died (exit code {code}); if the system is short of memory, "
            "use fewer processes or engine='serial'"
        )

    def drain(self, busy: dict[int, int]) -> None:
        """Wait for the answers still under way, so that the next round starts with quiet lines."""
        for member in busy:
            while busy[member]:
                self.receive_reply(member, busy)

    def stop(self) -> None:
        """End the processes. They are told: processes forked later may hold our lines open."""
        for line in self.lines:
            with contextlib.suppress(OSError):
                line.send(None)
            line.close()
        for member in self.members:
            member.join(timeout=5)


def answer_jobs(
    solve: Solve, open_rows: OpenRows, end: Connection, others: list[Connection]
) -> None:
    """Answer jobs until the line closes. The terminal's Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for other in others:
        other.close()
    torch.set_num_threads(1)
    line, inbox = Channel(end), SimpleQueue()
    threading.Thread(target=receive_jobs, args=(line, inbox), daemon=True).start()
    while (item := inbox.get()) is not None:
        number, (job, memory) = item
        answer: Any
        try:
            answer = run_job(solve, job, open_rows(job.worker), memory, run_steps_in_place)
        except Exception as error:
            answer = error
        line.send((number, answer))


def receive_jobs(line: Channel, inbox: SimpleQueue[Any]) -> None:
    """Read jobs while others are at work, so that the parent never waits to send one."""
    try:
        while True:
            inbox.put(line.recv())
    except (EOFError, OSError):
        pass
    finally:
        inbox.put(None)
