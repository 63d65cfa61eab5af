"""One round, written once: ask, split, cut, solve, fold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from torch import Generator

from moiety.core.axes import Part
from moiety.core.protocols import Cohort, Engine, Merge, Method, WeighsReplies
from moiety.core.state import Job, Reply, Share, State, Turn
from moiety.core.store import Store
from moiety.core.streams import SERVER, stream
from moiety.core.types import Params


def initialise_state(method: Method) -> State:
    """Give the state before the first round."""
    first = method.model.params if method.first is None else method.first
    return State(first, optimizer_state=method.solve.first_optimizer_state(first))


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
    optimizer_state = {
        name: open_optimizer_store(method, tensors)
        for name, tensors in state.optimizer_state.items()
    }
    for worker, share in shares.items():
        piece = store.take(share.part)
        known = frozenset(filter(asked.holds, piece)) if worker in answers else frozenset()
        kept = {name: section.take(share.part) for name, section in optimizer_state.items()}
        yield Job(seed, state.round, worker, share, piece, optimizer_state=kept, known=known)


def open_optimizer_store(method: Method, tensors: Params) -> Store:
    """Open a section of travelling memory; what has no dims (a step count) lies on no axis."""
    axes = method.model.axes
    return method.store(tensors, {n: axes[n] for n, t in tensors.items() if n in axes and t.ndim})


def fold_optimizer_state(
    merge: Merge, stores: Mapping[str, Store], replies: Iterable[Reply]
) -> Iterator[Reply]:
    """Fold the travelling memory of replies, weighed as they are, on their way to the merge."""
    for reply in replies:
        know = merge.weight(reply) if isinstance(merge, WeighsReplies) else reply.precision
        for name, tensors in reply.optimizer_state.items():
            stores[name].add(reply.share.part, tensors, know)
        yield reply


def commit_replies(method: Method, state: State, replies: Iterable[Reply]) -> State:
    """Fold replies, in job order, into the next state."""
    optimizer_state = {
        name: open_optimizer_store(method, tensors)
        for name, tensors in state.optimizer_state.items()
    }
    passing = fold_optimizer_state(method.merge, optimizer_state, replies)
    merged = method.merge(method.store(state.params, method.model.axes), passing)
    params, server = method.server(state.params, merged.params, merged.held, state.server)
    frozen = {
        name: state.params[name] if rule == "keep" else merged.params[name]
        for name, rule in method.model.buffers.items()
    }
    extra = state.extra if merged.extra is None else merged.extra
    return replace(
        state,
        round=state.round + 1,
        params={**params, **frozen},
        server=server,
        optimizer_state={name: store.close()[0] for name, store in optimizer_state.items()},
        extra=extra,
    )


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
