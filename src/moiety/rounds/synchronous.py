"""One round, written once: ask, split, cut, solve, fold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Generator

from moiety.core.axes import Part
from moiety.core.ledger import Round
from moiety.core.protocols import Cohort, Engine, Method
from moiety.core.state import Clock, Job, Share, State, Turn
from moiety.core.streams import SERVER, stream
from moiety.core.types import Params
from moiety.rounds.border import ATTEMPTS, Border, keep_sound_answers, refuse_empty_round
from moiety.rounds.cohort import CohortRule, FixedCohort
from moiety.rounds.commit import begin_commit, open_optimizer_stores
from moiety.rounds.judging import Judging
from moiety.rounds.meter import Meter, Stopwatch
from moiety.rounds.schedule import Schedule


def initialise_state(method: Method) -> State:
    """Give the state before the first round."""
    first = method.model.params if method.first is None else method.first
    trained = {name: t for name, t in first.items() if name not in method.model.buffers}
    means = {
        section: {name: torch.zeros_like(t) for name, t in trained.items()}
        for section in method.worker_means
    }
    return State(first, optimizer_state={**method.solve.first_optimizer_state(first), **means})


def query_jobs(method: Method, state: State, cohort: Cohort, seed: int) -> Iterator[Job]:
    """Cut the jobs of the query; none where there is no query or a worker's part is fixed."""
    if method.query is not None:
        share = Share(method.query.part)
        piece = method.store(state.params, method.model.axes).take(share.part)
        for worker in cohort:
            if worker not in method.query.exempt:
                yield method.wire.pack(Job(seed, state.round, worker, share, piece))


@dataclass(frozen=True)
class Dispatch:
    """Which of a round's groups of workers is sent out, and how many work at a time.

    In a synchronous round there is one; in an asynchronous one, more follow as workers get free.
    """

    number: int = 0
    concurrency: int = 0

    def stream(self, seed: int, round_index: int, purpose: str) -> Generator:
        """Open a stream of the server for this dispatch."""
        more = (self.number,) if self.number else ()
        return stream(seed, round_index, SERVER, purpose, *more)


FIRST_DISPATCH = Dispatch()


def split_cohort(
    method: Method,
    state: State,
    cohort: Cohort,
    answers: Mapping[int, Params],
    seed: int,
    dispatch: Dispatch = FIRST_DISPATCH,
) -> Mapping[int, Share]:
    """Say who gets what in a round."""
    rng = dispatch.stream(seed, state.round, "split")
    turn = Turn(state.round, tuple(cohort), answers, rng, dispatch.concurrency)
    return method.split(state, turn)


def make_jobs(
    method: Method,
    state: State,
    cohort: Cohort,
    answers: Mapping[int, Params],
    seed: int,
    dispatch: Dispatch = FIRST_DISPATCH,
) -> Iterator[Job]:
    """Split and cut, lazily, the jobs of one round; what the query brought is not sent again."""
    shares = split_cohort(method, state, cohort, answers, seed, dispatch)
    asked = method.query.part if method.query is not None else Part(names=())
    store = method.store(state.params, method.model.axes)
    optimizer_state = open_optimizer_stores(method, state.optimizer_state)
    for worker, share in shares.items():
        piece = store.take(share.part)
        known = frozenset(filter(asked.holds, piece)) if worker in answers else frozenset()
        kept = {name: section.take(share.part) for name, section in optimizer_state.items()}
        job = Job(seed, state.round, worker, share, piece, optimizer_state=kept, known=known)
        yield method.wire.pack(job)


@dataclass(frozen=True)
class SynchronousRounds:
    """Rounds in which the server waits for all whom it sends out.

    Args:
        method: the choices.
        engine: runs the jobs.
        cohort: who takes part.
        seed: of the run; every draw is addressed by it, the round and the worker.
        schedule: how long jobs take on the virtual clock, where there is one.
        concurrency: how many work at a time, where those of a round may be fewer; 0 for those.
        judging: which replies are refused.
    """

    method: Method
    engine: Engine
    cohort: CohortRule
    seed: int
    schedule: Schedule = field(default_factory=Schedule)
    concurrency: int = 0
    judging: Judging = field(default_factory=Judging)

    def advance(self, state: State, /) -> tuple[State, Round]:
        """Play one round: ask, split, cut, solve, judge, fold; again where nobody is accepted.

        Raises:
            ValueError: if nobody is accepted then either.
        """
        cohort = self.cohort(state.round, self.seed)
        if not cohort:
            raise ValueError("nobody is in the cohort; a round needs at least one worker")
        meter = Meter(Stopwatch(self.engine.transfers))
        border = Border(self.judging, self.method.wire)
        for _ in range(ATTEMPTS):
            after = self.attempt(state, cohort, meter, border)
            if after is not None:
                return after, meter.make_round(self.method, after, border.refused)
        raise refuse_empty_round(state.round, border.refused)

    def attempt(self, state: State, cohort: Cohort, meter: Meter, border: Border) -> State | None:
        """Play the round once; None where no reply is accepted."""
        method, watch, job_seconds = self.method, meter.watch, dict[int, float]()
        answers, asked = self.ask(state, cohort, meter, border)
        if not asked:
            return None
        dispatch = Dispatch(concurrency=self.concurrency)
        jobs = make_jobs(method, state, asked, answers, self.seed, dispatch)
        jobs = meter.count_jobs(time_jobs(self.schedule, state, jobs, job_seconds))
        commit = begin_commit(method, state)
        with watch.time("work"):
            replies = self.engine.map(method.solve, border.send(jobs))
            for _, reply in border.admit(replies):
                watch.switch("merge")
                commit.add(reply)
                watch.switch("work")
                meter.record_work(reply)
        if not commit.workers:
            return None
        with watch.time("merge"):
            state = commit.close()
        return replace(state, clock=wait_for_slowest(state.clock, job_seconds))

    def ask(
        self, state: State, cohort: Cohort, meter: Meter, border: Border
    ) -> tuple[dict[int, Params], Cohort]:
        """Ask the workers, where the method has a question.

        Returns:
            The answers by worker, and who goes on: all but those whose answers were refused.
        """
        query = self.method.query
        if query is None:
            return {}, cohort
        answers = {}
        jobs = meter.count_jobs(query_jobs(self.method, state, cohort, self.seed))
        with meter.watch.time("split"):
            for _, reply in border.admit(self.engine.map(query.solve, border.send(jobs))):
                meter.count_reply(reply)
                answers[reply.worker] = reply.answer
        answers = keep_sound_answers(answers, self.method, state.params, border)
        here = answers.keys() | query.exempt
        return answers, [worker for worker in cohort if worker in here]


def time_jobs(
    schedule: Schedule, state: State, jobs: Iterable[Job], job_seconds: dict[int, float]
) -> Iterator[Job]:
    """Write down the virtual seconds of jobs that pass, where there is a virtual clock."""
    whole = sum(tensor.numel() for tensor in state.params.values())
    for job in jobs:
        if schedule.has_clock:
            job_seconds[job.worker] = schedule.speeds.job(job, whole)
        yield job


def wait_for_slowest(clock: Clock, job_seconds: Mapping[int, float]) -> Clock:
    """Let virtual time pass until the slowest job is done."""
    now = clock.now + max(job_seconds.values(), default=0.0)
    return replace(clock, now=now, job_seconds={**clock.job_seconds, **job_seconds})


def play_round(method: Method, engine: Engine, state: State, cohort: Cohort, seed: int) -> State:
    """Play one synchronous round of a run, without its ledger.

    Args:
        method: the choices.
        engine: runs the jobs.
        state: where the run stands.
        cohort: workers that take part, without repeats.
        seed: of the run; every draw is addressed by it, the round and the worker.
    """
    rounds = SynchronousRounds(method, engine, FixedCohort(tuple(cohort)), seed)
    return rounds.advance(state)[0]
