"""One round, written once: ask, split, cut, solve, fold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Generator

from moiety.core.axes import Part
from moiety.core.protocols import Cohort, Engine, Method
from moiety.core.state import Job, Share, State, Turn
from moiety.core.streams import SERVER, stream
from moiety.core.types import Params
from moiety.rounds.commit import commit_replies, open_optimizer_stores


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
    """Cut the jobs of the probe; none where there is no probe or a worker's part is fixed."""
    if method.query is not None:
        share = Share(method.query.part)
        piece = method.store(state.params, method.model.axes).take(share.part)
        for worker in cohort:
            if worker not in method.query.exempt:
                yield Job(seed, state.round, worker, share, piece)


@dataclass(frozen=True)
class Dispatch:
    """Which of a round's groups of workers is sent out, and how many work at a time.

    In a synchronous round there is one; in an asynchronous one, more follow as workers get free.
    """

    number: int = 0
    concurrency: int = 0

    def stream(self, seed: int, round_index: int, purpose: str) -> Generator:
        """Open a stream of the server for this wave."""
        more = (self.number,) if self.number else ()
        return stream(seed, round_index, SERVER, purpose, *more)


FIRST_DISPATCH = Dispatch()


def make_jobs(
    method: Method,
    state: State,
    cohort: Cohort,
    answers: Mapping[int, Params],
    seed: int,
    dispatch: Dispatch = FIRST_DISPATCH,
) -> Iterator[Job]:
    """Split and cut, lazily, the jobs of one round; what the probe brought is not sent again."""
    rng = dispatch.stream(seed, state.round, "split")
    shares = method.split(
        state, Turn(state.round, tuple(cohort), answers, rng, dispatch.concurrency)
    )
    asked = method.query.part if method.query is not None else Part(names=())
    store = method.store(state.params, method.model.axes)
    optimizer_state = open_optimizer_stores(method, state.optimizer_state)
    for worker, share in shares.items():
        piece = store.take(share.part)
        known = frozenset(filter(asked.holds, piece)) if worker in answers else frozenset()
        kept = {name: section.take(share.part) for name, section in optimizer_state.items()}
        yield Job(seed, state.round, worker, share, piece, optimizer_state=kept, known=known)


def play_round(method: Method, engine: Engine, state: State, cohort: Cohort, seed: int) -> State:
    """Play a synchronous round.

    Args:
        method: the choices.
        engine: runs the jobs.
        state: where the run stands.
        cohort: workers that take part, without repeats.
        seed: of the run; every draw is addressed by it, the round and the worker.
    """
    if not cohort:
        raise ValueError("nobody is in the roster; a round needs at least one worker")
    asked = query_jobs(method, state, cohort, seed)
    query = method.query
    answers = {r.worker: r.answer for r in engine.map(query.solve, asked)} if query else {}
    jobs = make_jobs(method, state, cohort, answers, seed)
    return commit_replies(method, state, engine.map(method.solve, jobs))
