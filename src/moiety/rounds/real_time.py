"""The asynchronous round where time passes by itself: whoever is back first is committed first.

The choices are those of ``AsynchronousRounds``, and so are the draws, the folds and the staleness
of a reply; but who is back, and when, is told by the engine. The state holds the jobs under way, so
a server that was stopped goes on with them.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace

from moiety.core.courier import Courier, Landed
from moiety.core.ledger import Round
from moiety.core.protocols import Engine, Method
from moiety.core.state import Refusal, State
from moiety.rounds.asynchronous import (
    Arrived,
    AsynchronousRounds,
    Concurrency,
    dispatch_jobs,
    sort_jobs,
)
from moiety.rounds.border import Border
from moiety.rounds.judging import Judging
from moiety.rounds.schedule import Schedule


@dataclass(frozen=True)
class RealTimeRounds:
    """Rounds in which the server commits some replies while other workers are still out.

    Args:
        method: the choices.
        engine: runs the jobs.
        courier: the same, as what sends jobs and does not wait.
        concurrency: who may work.
        seed: of the run.
        schedule: when the server commits; of its speeds nothing is read.
        judging: which replies are refused.
    """

    method: Method
    engine: Engine
    courier: Courier
    concurrency: Concurrency
    seed: int
    schedule: Schedule
    judging: Judging = field(default_factory=Judging)

    @property
    def choices(self) -> AsynchronousRounds:
        """Give the choices as those of virtual time."""
        return AsynchronousRounds(
            self.method, self.engine, self.concurrency, self.seed, self.schedule, self.judging
        )

    def advance(self, state: State, /) -> tuple[State, Round]:
        """Play one round: let time pass until a commit is due, judge, weigh, fold.

        Raises:
            ValueError: if no reply is accepted, nor at the next time that a commit is due.
        """
        return self.choices.commit_when_due(state, self.wait_for_commit)

    def wait_for_commit(self, state: State, border: Border) -> tuple[State, Arrived]:
        """Send out idle workers and take in replies until a commit is due, or nobody is out."""
        buffered = self.schedule.kind == "buffered"
        until = math.inf if buffered else time.monotonic() + self.schedule.window
        most = self.schedule.size if buffered else self.concurrency.limit
        wait, number, lost = Waited(state, Arrived()), 0, set[int]()
        wait = wait.take(self.send_out(wait.state), border, most, lost)
        while not (wait.arrived.jobs and time.monotonic() >= until):
            away = self.courier.find_absent() | lost
            sent, arrived = dispatch_jobs(
                self.choices, wait.state, wait.arrived, number, border, away
            )
            wait, number = Waited(sent, arrived), number + 1
            wait = wait.take(self.send_out(sent), border, most, lost)
            if len(wait.arrived.jobs) >= most or not wait.state.clock.in_flight:
                break
            left = until - time.monotonic() if wait.arrived.jobs else math.inf
            wait = wait.take(self.courier.wait_for_any(left), border, most, lost)
            if len(wait.arrived.jobs) >= most:
                break
        return wait.state, sort_jobs(wait.arrived)

    def send_out(self, state: State) -> Landed:
        """Send the jobs of a state that are not under way."""
        jobs = [one.job for one in state.clock.in_flight]
        oldest = min([state.round, *(job.round for job in jobs)])
        return self.courier.send_out(self.method.solve, jobs, oldest)


@dataclass(frozen=True)
class Waited:
    """Where a wait for a commit stands: the state, and what is there."""

    state: State
    arrived: Arrived

    def take(self, landed: Landed, border: Border, most: int, lost: set[int]) -> Waited:
        """Take in who is back, first sent first, and write down who is lost.

        Whoever is back when there is no place in the commit stays under way, with its reply there.
        """
        room, clock = most - len(self.arrived.jobs), self.state.clock
        back = [one.job for one in clock.in_flight if one.job.worker in landed.back][:room]
        border.refused += [Refusal(worker, reason) for worker, reason in landed.lost.items()]
        lost.update(landed.lost)
        gone = {job.worker for job in back} | landed.lost.keys()
        flying = tuple(one for one in clock.in_flight if one.job.worker not in gone)
        return Waited(
            replace(self.state, clock=replace(clock, in_flight=flying)),
            replace(self.arrived, jobs=(*self.arrived.jobs, *back)),
        )
