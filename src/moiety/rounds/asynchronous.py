"""The asynchronous round, beside the synchronous one of ``play``: send out, wait for some, commit.

All of it is a function of the state, which holds the jobs under way. A job is cut from the model
as it is when it is sent, and carried out when its reply is due: the replies of a commit then run
through the engine together. Nobody has two jobs at a time, so that the numbers are those of
carrying each out at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from torch import Generator

from moiety.core.protocols import Engine, Method
from moiety.core.state import Clock, Flight, Job, Reply, State
from moiety.core.types import Params
from moiety.ops.sample import sample
from moiety.rounds.schedule import Pace
from moiety.rounds.synchronous import Wave, commit, dispatch, questions, slot_store

MANY = 1e6
"""Windows without a reply that are counted one by one; after more, the next reply ends the wait."""


@dataclass(frozen=True)
class Crew:
    """Who may work: ``places`` at a time of the workers 0 .. ``population`` - 1."""

    population: int
    places: int


@dataclass(frozen=True)
class Due:
    """What a commit is made of.

    Args:
        jobs: whose replies are there, sorted by worker.
        down: worker -> bytes sent to it since the last commit.
        up: worker -> bytes of its hints since then.
    """

    jobs: tuple[Job, ...] = ()
    down: Mapping[int, int] = field(default_factory=dict)
    up: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Course:
    """What an asynchronous run does not change: its choices, its engine, its seed."""

    method: Method
    engine: Engine
    pace: Pace
    crew: Crew
    seed: int


def play(course: Course, state: State) -> State:
    """Play an asynchronous round."""
    state, due = gather(course, state)
    replies = course.engine.map(course.method.solve, due.jobs)
    return commit(course.method, state, weigh(course, state, due.jobs, replies))


def gather(course: Course, state: State) -> tuple[State, Due]:
    """Let virtual time pass, sending workers out as others come back, until a commit is due.

    Returns:
        The state at that time, with the jobs still under way, and what is due.
    """
    pace, due, number = course.pace, Due(), 0
    span = math.inf if pace.kind == "buffer" else pace.window
    limit = state.clock.now + span
    while True:
        state, due = launch(course, state, due, number)
        number += 1
        at = min((one.end for one in state.clock.flight), default=math.inf)
        if at > limit and not due.jobs:
            limit = beyond(limit, span, at)  # nothing is committed while nobody comes back
        if at > limit:
            return replace(state, clock=replace(state.clock, now=limit)), sort(due)
        most = pace.size - len(due.jobs) if pace.kind == "buffer" else course.crew.places
        state, back = land(state, at, most)
        due = replace(due, jobs=(*due.jobs, *back))
        if pace.kind == "buffer" and len(due.jobs) == pace.size:
            return state, sort(due)


def beyond(limit: float, span: float, at: float) -> float:
    """Move a limit on by whole spans until it is no earlier than a time.

    >>> beyond(1.0, 0.5, 2.25)
    2.5
    """
    if at - limit > MANY * span:
        return at
    while at > limit:  # also where a span is lost in rounding
        limit = max(limit + span, math.nextafter(limit, math.inf))
    return limit


def sort(due: Due) -> Due:
    """Sort the jobs by worker, the order in which a synchronous round folds its replies."""
    return replace(due, jobs=tuple(sorted(due.jobs, key=lambda job: job.worker)))


def launch(course: Course, state: State, due: Due, number: int) -> tuple[State, Due]:
    """Send jobs to idle workers until all places are taken or nobody is idle.

    A worker whose reply waits for the commit is not idle: it would get the model it had. Draws
    are addressed by the round and the ``number`` of this wave in it.
    """
    method, crew, flight = course.method, course.crew, state.clock.flight
    busy = {one.job.worker for one in flight} | {job.worker for job in due.jobs}
    room = min(crew.places - len(flight), crew.population - len(busy))
    if room <= 0:
        return state, due
    wave = Wave(number, crew.places)
    roster = idle(crew, busy, room, wave.stream(course.seed, state.round, "roster"))
    due, hints = ask(course, state, due, roster)
    jobs = list(dispatch(method, state, roster, hints, course.seed, wave))
    whole = sum(tensor.numel() for tensor in state.params.values())
    seconds = [course.pace.speeds.job(job, whole) for job in jobs]
    sent = tuple(Flight(job, state.clock.now + s, s) for job, s in zip(jobs, seconds, strict=True))
    clock = replace(state.clock, flight=(*flight, *sent))
    down = add(due.down, ((job.worker, job.down_bytes) for job in jobs))
    return replace(state, clock=clock), replace(due, down=down)


def idle(crew: Crew, busy: AbstractSet[int], count: int, rng: Generator) -> tuple[int, ...]:
    """Draw some of the workers that are not busy, uniformly; sorted.

    >>> import torch
    >>> idle(Crew(4, 2), {0, 2}, 2, torch.Generator().manual_seed(0))
    (1, 3)
    """
    found = []
    for rank in sample(crew.population - len(busy), count, rng):
        worker = rank
        for other in sorted(busy):
            worker += other <= worker
        found.append(worker)
    return tuple(sorted(found))


def ask(
    course: Course, state: State, due: Due, roster: tuple[int, ...]
) -> tuple[Due, dict[int, Params]]:
    """Ask the probe, if there is one; its answers take no virtual time."""
    if course.method.probe is None:
        return due, {}
    asked = list(questions(course.method, state, roster, course.seed))
    told = list(course.engine.map(course.method.probe.solve, asked))
    down = add(due.down, ((job.worker, job.down_bytes) for job in asked))
    up = add(due.up, ((reply.worker, reply.up_bytes) for reply in told))
    return replace(due, down=down, up=up), {reply.worker: reply.hint for reply in told}


def add(total: Mapping[int, int], more: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Add bytes by worker."""
    found = dict(total)
    for worker, count in more:
        found[worker] = found.get(worker, 0) + count
    return found


def land(state: State, at: float, most: int) -> tuple[State, list[Job]]:
    """Take up to ``most`` of the replies that are there at a time, first sent first."""
    back = [one for one in state.clock.flight if one.end <= at][:most]
    here = {one.job.worker: one.seconds for one in back}
    clock = replace(
        state.clock,
        now=at,
        flight=tuple(one for one in state.clock.flight if one.job.worker not in here),
        took={**state.clock.took, **here},
    )
    return replace(state, clock=clock), [one.job for one in back]


def weigh(
    course: Course, state: State, jobs: Iterable[Job], replies: Iterable[Reply]
) -> Iterator[Reply]:
    """Draw late replies back towards what the server has, by the rule of the pace.

    With s the weight of the staleness (commits since the job was cut) and the server's rate in
    it, x the server's piece now, x_0 the one that was sent and x_w what the worker made of it,
    the merge gets ``x + s (x_w - x)``, or ``x + s (x_w - x_0)`` where changes are applied. So a
    commit of one reply is FedAsync's convex combination, and a mean over K replies FedBuff's
    ``x + (1/K) sum s (x_w - x_0)``. A weight in the precision would do neither: a mean over
    holders divides it out again. Memory that travels with a piece gets ``x + s (x_w - x)``, s at
    most 1, in either case: a mean of squares must not fall below 0.
    """
    pace, method = course.pace, course.method
    store = method.store(state.params, method.model.axes)
    stores = {name: slot_store(method, tensors) for name, tensors in state.slots.items()}
    for job, reply in zip(jobs, replies, strict=True):
        late = state.round - job.round
        follow = pace.weight(late)
        if follow == 1.0 and not (pace.change and late):
            yield reply  # as it is, to the bit
            continue
        part = reply.share.part
        here = store.take(part)
        piece = drawn(here, job.piece if pace.change else here, reply.piece, follow)
        slots = {}
        for name, tensors in reply.slots.items():
            held = stores[name].take(part)
            slots[name] = drawn(held, held, tensors, min(follow, 1.0))
        yield replace(reply, piece=piece, slots=slots)


def drawn(here: Params, since: Params, there: Params, follow: float) -> Params:
    """Go from what is here a share of the way that was made since; integers are taken as told."""
    return {
        name: here[name] + follow * (tensor - since[name])
        if tensor.is_floating_point() and not tensor.is_meta  # a piece that is elsewhere
        else tensor
        for name, tensor in there.items()
    }


def timed(pace: Pace, state: State, jobs: Iterable[Job], took: dict[int, float]) -> Iterator[Job]:
    """Write down, in ``took``, the virtual seconds of jobs that pass."""
    whole = sum(tensor.numel() for tensor in state.params.values())
    for job in jobs:
        took[job.worker] = pace.speeds.job(job, whole)
        yield job


def waited(clock: Clock, took: Mapping[int, float]) -> Clock:
    """Wait for the slowest."""
    now = clock.now + max(took.values(), default=0.0)
    return replace(clock, now=now, took={**clock.took, **took})
