"""One round, written once: ask, split, cut, solve, fold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from torch import Generator

from moiety.core.axes import Part
from moiety.core.protocols import Engine, Merge, Method, Roster, Weighing
from moiety.core.state import Job, Reply, Share, State, Turn
from moiety.core.store import Store
from moiety.core.streams import SERVER, stream
from moiety.core.types import Params


def begin(method: Method) -> State:
    """Give the state before the first round."""
    first = method.model.params if method.first is None else method.first
    return State(first, slots=method.solve.slots(first))


def questions(method: Method, state: State, roster: Roster, seed: int) -> Iterator[Job]:
    """Cut the jobs of the probe; none where there is no probe or a worker's part is fixed."""
    if method.probe is not None:
        share = Share(method.probe.part)
        piece = method.store(state.params, method.model.axes).take(share.part)
        for worker in roster:
            if worker not in method.probe.spare:
                yield Job(seed, state.round, worker, share, piece)


@dataclass(frozen=True)
class Wave:
    """Which of a round's groups of workers is sent out, and how many work at a time.

    In a synchronous round there is one; in an asynchronous one, more follow as workers get free.
    """

    number: int = 0
    places: int = 0

    def stream(self, seed: int, round_index: int, purpose: str) -> Generator:
        """Open a stream of the server for this wave."""
        more = (self.number,) if self.number else ()
        return stream(seed, round_index, SERVER, purpose, *more)


ONE = Wave()


def dispatch(
    method: Method,
    state: State,
    roster: Roster,
    hints: Mapping[int, Params],
    seed: int,
    wave: Wave = ONE,
) -> Iterator[Job]:
    """Split and cut, lazily, the jobs of one round; what the probe brought is not sent again."""
    rng = wave.stream(seed, state.round, "split")
    shares = method.split(state, Turn(state.round, tuple(roster), hints, rng, wave.places))
    asked = method.probe.part if method.probe is not None else Part(names=())
    store = method.store(state.params, method.model.axes)
    slots = {name: slot_store(method, tensors) for name, tensors in state.slots.items()}
    for worker, share in shares.items():
        piece = store.take(share.part)
        known = frozenset(filter(asked.holds, piece)) if worker in hints else frozenset()
        kept = {name: section.take(share.part) for name, section in slots.items()}
        yield Job(seed, state.round, worker, share, piece, slots=kept, known=known)


def slot_store(method: Method, tensors: Params) -> Store:
    """Open a section of travelling memory; what has no dims (a step count) lies on no axis."""
    axes = method.model.axes
    return method.store(tensors, {n: axes[n] for n, t in tensors.items() if n in axes and t.ndim})


def fold_slots(
    merge: Merge, stores: Mapping[str, Store], replies: Iterable[Reply]
) -> Iterator[Reply]:
    """Fold the travelling memory of replies, weighed as they are, on their way to the merge."""
    for reply in replies:
        know = merge.weight(reply) if isinstance(merge, Weighing) else reply.precision
        for name, tensors in reply.slots.items():
            stores[name].add(reply.share.part, tensors, know)
        yield reply


def commit(method: Method, state: State, replies: Iterable[Reply]) -> State:
    """Fold replies, in job order, into the next state."""
    slots = {name: slot_store(method, tensors) for name, tensors in state.slots.items()}
    passing = fold_slots(method.merge, slots, replies)
    merged = method.merge(method.store(state.params, method.model.axes), passing)
    params, outer = method.outer(state.params, merged.params, merged.held, state.outer)
    frozen = {
        name: state.params[name] if rule == "keep" else merged.params[name]
        for name, rule in method.model.buffers.items()
    }
    extra = state.extra if merged.extra is None else merged.extra
    return replace(
        state,
        round=state.round + 1,
        params={**params, **frozen},
        outer=outer,
        slots={name: store.close()[0] for name, store in slots.items()},
        extra=extra,
    )


def play(method: Method, engine: Engine, state: State, roster: Roster, seed: int) -> State:
    """Play a synchronous round.

    Args:
        method: the choices.
        engine: runs the jobs.
        state: where the run stands.
        roster: workers that take part, without repeats.
        seed: of the run; every draw is addressed by it, the round and the worker.
    """
    if not roster:
        raise ValueError("nobody is in the roster; a round needs at least one worker")
    asked = questions(method, state, roster, seed)
    probe = method.probe
    hints = {r.worker: r.hint for r in engine.map(probe.solve, asked)} if probe else {}
    jobs = dispatch(method, state, roster, hints, seed)
    return commit(method, state, engine.map(method.solve, jobs))
