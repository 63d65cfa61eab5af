"""The asynchronous round, beside the synchronous one: send out, wait for some, commit.

All of it is a function of the state, which holds the jobs under way. A job is cut from the model
as it is when it is sent, and carried out when its reply is due: the replies of a commit then run
through the engine together. Nobody has two jobs at a time, so that the numbers are those of
carrying each out at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from torch import Generator

from moiety.core.ledger import Round
from moiety.core.protocols import Engine, Method
from moiety.core.state import InFlight, Job, State
from moiety.core.types import Params
from moiety.ops.sample import sample_distinct
from moiety.rounds.border import ATTEMPTS, Border, keep_sound_answers, refuse_empty_round
from moiety.rounds.commit import begin_commit, open_optimizer_stores
from moiety.rounds.draw_back import DrawBack
from moiety.rounds.judging import Judging
from moiety.rounds.meter import Meter, Stopwatch
from moiety.rounds.schedule import Schedule
from moiety.rounds.synchronous import Dispatch, make_jobs, query_jobs

MOST_WINDOWS = 1e6
"""Windows without a reply that are counted one by one; after more, the next reply ends the wait."""


@dataclass(frozen=True)
class Concurrency:
    """Who may work: ``limit`` at a time of the workers 0 .. ``population`` - 1."""

    population: int
    limit: int


@dataclass(frozen=True)
class Arrived:
    """What a commit is made of.

    Args:
        jobs: whose replies are there, sorted by worker.
        down: worker -> bytes sent to it since the last commit.
        up: worker -> bytes of its answers since then.
    """

    jobs: tuple[Job, ...] = ()
    down: Mapping[int, int] = field(default_factory=dict)
    up: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class AsynchronousRounds:
    """Rounds in which the server commits some replies while other workers are still out.

    Args:
        method: the choices.
        engine: runs the jobs.
        concurrency: who may work.
        seed: of the run.
        schedule: when the server commits, and how long jobs take.
        judging: which replies are refused.
    """

    method: Method
    engine: Engine
    concurrency: Concurrency
    seed: int
    schedule: Schedule
    judging: Judging = field(default_factory=Judging)

    def advance(self, state: State, /) -> tuple[State, Round]:
        """Play one round: let virtual time pass until a commit is due, solve, judge, weigh, fold.

        Raises:
            ValueError: if no reply is accepted, nor at the next time that a commit is due.
        """
        return self.commit_when_due(state, lambda now, border: await_commit(self, now, border))

    def commit_when_due(
        self, state: State, wait: Callable[[State, Border], tuple[State, Arrived]]
    ) -> tuple[State, Round]:
        """Wait in some way until a commit is due, and commit; once more if nothing is accepted.

        Raises:
            ValueError: if nothing is accepted then either.
        """
        border = Border(self.judging, self.method.wire)
        meter = Meter(Stopwatch(self.engine.transfers))
        for _ in range(ATTEMPTS):
            with meter.watch.time("split"):
                state, arrived = wait(state, border)
            after = self.commit_arrived(state, arrived, meter, border)
            if after is not None:
                return after, meter.make_round(self.method, after, border.refused)
        raise refuse_empty_round(state.round, border.refused)

    def commit_arrived(
        self, state: State, arrived: Arrived, meter: Meter, border: Border
    ) -> State | None:
        """Fold what is due; None where nothing of it is accepted."""
        method, watch = self.method, meter.watch
        meter.down.update(add_bytes(meter.down, arrived.down.items()))
        meter.up.update(add_bytes(meter.up, arrived.up.items()))
        meter.jobs.update({job.worker: job.down_bytes for job in arrived.jobs})
        draw_back, commit = begin_draw_back(self, state), begin_commit(method, state)
        with watch.time("work"):
            replies = self.engine.map(method.solve, border.send(arrived.jobs))
            for job, reply in border.admit(replies):
                watch.switch("merge")
                commit.add(draw_back(job, reply))
                watch.switch("work")
                meter.record_work(reply)
        if not commit.workers:
            return None
        with watch.time("merge"):
            return commit.close()


def await_commit(
    rounds: AsynchronousRounds, state: State, border: Border | None = None
) -> tuple[State, Arrived]:
    """Let virtual time pass, sending workers out as others come back, until a commit is due.

    Args:
        rounds: the choices.
        state: of the run.
        border: writes down whose answers are refused; a new one by default.

    Returns:
        The state at that time, with the jobs still under way, and what is due.
    """
    schedule, arrived, number = rounds.schedule, Arrived(), 0
    border = border or Border(rounds.judging, rounds.method.wire)
    span = math.inf if schedule.kind == "buffered" else schedule.window
    limit = state.clock.now + span
    while True:
        state, arrived = dispatch_jobs(rounds, state, arrived, number, border)
        number += 1
        at = min((one.end for one in state.clock.in_flight), default=math.inf)
        if at > limit and not arrived.jobs:
            limit = move_limit(limit, span, at)  # nothing is committed while nobody comes back
        if at > limit:
            return replace(state, clock=replace(state.clock, now=limit)), sort_jobs(arrived)
        most = (
            schedule.size - len(arrived.jobs)
            if schedule.kind == "buffered"
            else rounds.concurrency.limit
        )
        state, back = receive_replies(state, at, most)
        arrived = replace(arrived, jobs=(*arrived.jobs, *back))
        if schedule.kind == "buffered" and len(arrived.jobs) == schedule.size:
            return state, sort_jobs(arrived)


def move_limit(limit: float, span: float, at: float) -> float:
    """Move a limit on by whole spans until it is no earlier than a time.

    >>> move_limit(1.0, 0.5, 2.25)
    2.5
    """
    if at - limit > MOST_WINDOWS * span:
        return at
    while at > limit:  # also where a span is lost in rounding
        limit = max(limit + span, math.nextafter(limit, math.inf))
    return limit


def sort_jobs(arrived: Arrived) -> Arrived:
    """Sort the jobs by worker, the order in which a synchronous round folds its replies."""
    return replace(arrived, jobs=tuple(sorted(arrived.jobs, key=lambda job: job.worker)))


def dispatch_jobs(
    rounds: AsynchronousRounds,
    state: State,
    arrived: Arrived,
    number: int,
    border: Border,
    away: AbstractSet[int] = frozenset(),
) -> tuple[State, Arrived]:
    """Send jobs to idle workers until all places are taken or nobody is idle.

    A worker whose reply waits for the commit is not idle: it would get the model it had. Draws
    are addressed by the round and the ``number`` of this dispatch in it.
    """
    method, concurrency, in_flight = (
        rounds.method,
        rounds.concurrency,
        state.clock.in_flight,
    )
    busy = {one.job.worker for one in in_flight} | {job.worker for job in arrived.jobs} | away
    room = min(concurrency.limit - len(in_flight), concurrency.population - len(busy))
    if room <= 0:
        return state, arrived
    dispatch = Dispatch(number, concurrency.limit)
    cohort = draw_idle_workers(
        concurrency, busy, room, dispatch.stream(rounds.seed, state.round, "roster")
    )
    arrived, answers = query_workers(rounds, state, arrived, cohort, border)
    if method.query is not None:
        cohort = tuple(w for w in cohort if w in answers or w in method.query.exempt)
    jobs = list(make_jobs(method, state, cohort, answers, rounds.seed, dispatch))
    whole = sum(tensor.numel() for tensor in state.params.values())
    seconds = [rounds.schedule.speeds.job(job, whole) for job in jobs]
    sent = tuple(
        InFlight(job, state.clock.now + s, s) for job, s in zip(jobs, seconds, strict=True)
    )
    clock = replace(state.clock, in_flight=(*in_flight, *sent))
    down = add_bytes(arrived.down, ((job.worker, job.down_bytes) for job in jobs))
    return replace(state, clock=clock), replace(arrived, down=down)


def draw_idle_workers(
    concurrency: Concurrency, busy: AbstractSet[int], count: int, rng: Generator
) -> tuple[int, ...]:
    """Draw some of the workers that are not busy, uniformly; sorted.

    >>> import torch
    >>> draw_idle_workers(Concurrency(4, 2), {0, 2}, 2, torch.Generator().manual_seed(0))
    (1, 3)
    """
    found = []
    for rank in sample_distinct(concurrency.population - len(busy), count, rng):
        worker = rank
        for other in sorted(busy):
            worker += other <= worker
        found.append(worker)
    return tuple(sorted(found))


def query_workers(
    rounds: AsynchronousRounds,
    state: State,
    arrived: Arrived,
    cohort: tuple[int, ...],
    border: Border,
) -> tuple[Arrived, dict[int, Params]]:
    """Send the query, if there is one; its answers take no virtual time."""
    if rounds.method.query is None:
        return arrived, {}
    asked = list(query_jobs(rounds.method, state, cohort, rounds.seed))
    replies = rounds.engine.map(rounds.method.query.solve, border.send(asked))
    told = [reply for _, reply in border.admit(replies)]
    down = add_bytes(arrived.down, ((job.worker, job.down_bytes) for job in asked))
    up = add_bytes(arrived.up, ((reply.worker, reply.up_bytes) for reply in told))
    answers = {reply.worker: reply.answer for reply in told}
    sound = keep_sound_answers(answers, rounds.method, state.params, border)
    return replace(arrived, down=down, up=up), sound


def add_bytes(total: Mapping[int, int], more: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Add bytes by worker."""
    found = dict(total)
    for worker, count in more:
        found[worker] = found.get(worker, 0) + count
    return found


def receive_replies(state: State, at: float, most: int) -> tuple[State, list[Job]]:
    """Take up to ``most`` of the replies that are there at a time, first sent first."""
    back = [one for one in state.clock.in_flight if one.end <= at][:most]
    here = {one.job.worker: one.seconds for one in back}
    clock = replace(
        state.clock,
        now=at,
        in_flight=tuple(one for one in state.clock.in_flight if one.job.worker not in here),
        job_seconds={**state.clock.job_seconds, **here},
    )
    return replace(state, clock=clock), [one.job for one in back]


def begin_draw_back(rounds: AsynchronousRounds, state: State) -> DrawBack:
    """Begin to draw back the replies of a commit."""
    method = rounds.method
    store = method.store(state.params, method.model.axes)
    sections = open_optimizer_stores(method, state.optimizer_state)
    return DrawBack(rounds.schedule, state.round, store, sections, method.worker_means)
