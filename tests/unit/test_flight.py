"""Asynchronous rounds: order, weights, places and equality with the synchronous round."""

import math
from dataclasses import replace

import pytest
import torch

from moiety.core.axes import Along
from moiety.core.rows import TransformedRows
from moiety.core.state import Record, Reply, Turn
from moiety.core.streams import stream
from moiety.engine.pool import Pool
from moiety.engine.serial import Serial
from moiety.engine.vectorized import Vectorized
from moiety.methods import METHODS
from moiety.methods.demo import make_two_class_workers
from moiety.methods.fedavg import fedavg
from moiety.methods.ist import ist
from moiety.methods.task import LocalTraining, Task
from moiety.models.mlp import mlp
from moiety.rounds.asynchronous import (
    AsynchronousRounds,
    Concurrency,
    await_commit,
    begin_draw_back,
    draw_idle_workers,
    move_limit,
)
from moiety.rounds.cohort import UniformCohort
from moiety.rounds.commit import commit_replies
from moiety.rounds.schedule import Schedule, Speeds
from moiety.rounds.synchronous import initialise_state, make_jobs, play_round
from moiety.split.nested import Nested, Widths
from moiety.split.scored import Scored, drop_window, measure_movement

SEED = 3
FEDASYNC = Schedule("buffered", 1, rate=0.5, speeds=Speeds(values=(1.0, 2.5, 4.0)))
FEDBUFF = Schedule("buffered", 2, staleness="polynomial", change=True, speeds=FEDASYNC.speeds)


def async_plan(schedule, name="fedavg", limit=3, population=6, engine=Serial):
    demo = METHODS[name].demo(stream(SEED, "demo"))
    made = engine(demo.data.__getitem__)
    return AsynchronousRounds(demo.method, made, Concurrency(population, limit), SEED, schedule)


def same(a, b) -> bool:
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", ["fedavg", "ist", "fedper", "diloco", "asyncdrop", "fjord"])
@pytest.mark.parametrize("schedule", [Schedule("buffered", 6), Schedule("windowed", window=1.0)])
@pytest.mark.parametrize("staleness", ["constant", "polynomial"])
def test_all_at_one_speed_is_the_synchronous_round(name, schedule, staleness):
    """Bit for bit, whatever the staleness costs: nobody is late."""
    schedule = replace(schedule, staleness=staleness, change=staleness == "polynomial")
    one, two = async_plan(schedule, name, limit=6), async_plan(schedule, name, limit=6)
    state = other = initialise_state(one.method)
    for _ in range(3):
        state = one.advance(state)[0]
        other = play_round(two.method, two.engine, other, range(6), SEED)
        other = replace(other, clock=state.clock)  # as a run with declared speeds has it
    assert same(state.params, other.params)
    assert state.clock.now == 3.0
    assert not state.clock.in_flight


def test_who_is_drawn_is_who_a_synchronous_round_draws():
    one = async_plan(Schedule("buffered", 3))
    state = initialise_state(one.method)
    for round_index in range(4):
        state, arrived = await_commit(one, state)
        assert tuple(job.worker for job in arrived.jobs) == UniformCohort(6, 3)(round_index, SEED)
        state = replace(state, round=state.round + 1)


def drained(schedule, limit, population, rounds):
    """Give virtual time and workers of some commits."""
    here = async_plan(schedule, limit=limit, population=population)
    state, found = initialise_state(here.method), []
    for _ in range(rounds):
        state, arrived = await_commit(here, state)
        found.append((state.clock.now, [(job.worker, job.round) for job in arrived.jobs]))
        state = replace(state, round=state.round + 1)
    return found


def test_finishing_follows_the_declared_speeds_by_hand():
    """Seconds 1, 2.5 and 4; everyone starts at 0 and again when it was committed."""
    schedule = Schedule("buffered", 1, speeds=Speeds(values=(1.0, 2.5, 4.0)))
    assert drained(schedule, 3, 3, 7) == [
        (1.0, [(0, 0)]),
        (2.0, [(0, 1)]),
        (2.5, [(1, 0)]),
        (3.0, [(0, 2)]),
        (4.0, [(2, 0)]),  # sent before worker 0's job of the same second
        (4.0, [(0, 4)]),
        (5.0, [(1, 3)]),  # and worker 1 before worker 0 again
    ]


def test_two_replies_by_hand():
    """Worker 0 is back at 1 and waits, so that the second is worker 1's, at 2.5."""
    schedule = Schedule("buffered", 2, speeds=Speeds(values=(1.0, 2.5, 4.0)))
    assert drained(schedule, 3, 3, 3) == [
        (2.5, [(0, 0), (1, 0)]),
        (4.0, [(0, 1), (2, 0)]),
        (5.0, [(0, 2), (1, 1)]),
    ]


def test_windows_by_hand():
    """Of 2 s: worker 0 alone; then all that are back by 4 s; empty windows pass."""
    schedule = Schedule("windowed", window=2.0, speeds=Speeds(values=(1.0, 2.5, 4.0)))
    assert drained(schedule, 3, 3, 2) == [(2.0, [(0, 0)]), (4.0, [(0, 1), (1, 0), (2, 0)])]
    slow = Schedule("windowed", window=2.0, speeds=Speeds(values=(5.0,)))
    assert drained(slow, 3, 3, 2) == [
        (6.0, [(0, 0), (1, 0), (2, 0)]),
        (12.0, [(0, 1), (1, 1), (2, 1)]),
    ]


@pytest.mark.parametrize(
    "schedule", [FEDASYNC, FEDBUFF, Schedule("windowed", speeds=FEDASYNC.speeds)]
)
def test_nobody_has_two_jobs(schedule):
    here = async_plan(schedule, limit=4, population=5)
    state, seen = initialise_state(here.method), set()
    for _ in range(25):
        state, arrived = await_commit(here, state)
        busy = [one.job.worker for one in state.clock.in_flight]
        both = busy + [job.worker for job in arrived.jobs]
        assert len(both) == len(set(both))
        assert len(busy) <= 4
        for job in arrived.jobs:
            assert (job.round, job.worker) not in seen  # or its randomness would repeat
            seen.add((job.round, job.worker))
        state = replace(state, round=state.round + 1)


def stale(schedule, late):
    """Weigh a reply of 3 to a job of 1, cut ``late`` commits ago; the server is at 2 by now."""
    here = async_plan(schedule)
    state = replace(initialise_state(here.method), round=late)
    one = {name: torch.ones_like(t) for name, t in state.params.items()}
    job = replace(next(iter(make_jobs(here.method, state, [0], {}, SEED))), round=0, piece=one)
    state = replace(state, params={name: 2 * t for name, t in one.items()})
    reply = Reply(
        0, job.share, {name: 3 * t for name, t in one.items()}, record=Record(model_version=0)
    )
    after = commit_replies(here.method, state, [begin_draw_back(here, state)(job, reply)])
    return float(after.params["layer1.b"][0])


def test_staleness_weights_by_hand():
    """Server 2, sent 1, found 3, three commits late: towards 3, or by the change of 2."""
    assert stale(Schedule("buffered"), 3) == 3
    assert stale(Schedule("buffered", rate=0.5), 3) == 2.5
    assert stale(Schedule("buffered", rate=0.5, staleness="polynomial"), 3) == 2.25
    assert stale(Schedule("buffered", staleness="polynomial", power=1.0), 3) == 2.25
    assert stale(Schedule("buffered", staleness="hinge", power=1.0, patience=2), 3) == 2.5
    assert stale(Schedule("buffered", staleness="hinge", power=1.0, patience=3), 3) == 3
    assert stale(Schedule("buffered", change=True), 3) == 4
    assert stale(Schedule("buffered", change=True, staleness="polynomial"), 3) == 3


def test_a_buffer_is_fedbuffs_sum():
    """x + (1/K) sum s (x_w - x_0), section 3 of FedBuff, with its own staleness for each."""
    here = async_plan(replace(FEDBUFF, size=3))
    state = initialise_state(here.method)
    for _ in range(4):
        state, arrived = await_commit(here, state)
        replies = list(here.engine.map(here.method.solve, arrived.jobs))
        draw_back = begin_draw_back(here, state)
        drawn = [draw_back(*pair) for pair in zip(arrived.jobs, replies, strict=True)]
        after = commit_replies(here.method, state, drawn)
        for name, old in state.params.items():
            wanted = old.clone()
            for job, reply in zip(arrived.jobs, replies, strict=True):
                late = 1 + state.round - job.round
                wanted += (reply.piece[name] - job.piece[name]) / late**0.5 / 3
            torch.testing.assert_close(after.params[name], wanted)
        state = after
    assert any(job.round < state.round - 1 for job in arrived.jobs)


@pytest.mark.parametrize("name", ["fedavg", "ddome", "fedper", "asyncdrop", "heterofl"])
@pytest.mark.parametrize("schedule", [FEDASYNC, FEDBUFF])
def test_every_engine_agrees(name, schedule):
    ends = []
    for engine in (Serial, Vectorized, lambda rows: Pool(rows, processes=2)):
        demo = METHODS[name].demo(stream(SEED, "demo"))
        transform = demo.method.transform
        rows = (
            demo.data.__getitem__
            if transform is None
            else TransformedRows(demo.data.__getitem__, transform)
        )
        made = engine(rows)
        here = AsynchronousRounds(demo.method, made, Concurrency(6, 3), SEED, schedule)
        state = initialise_state(demo.method)
        for _ in range(5):
            state = here.advance(state)[0]
        made.close()
        ends.append(state)
    serial, stacked, pooled = ends
    assert same(pooled.params, serial.params)
    for name, tensor in serial.params.items():
        torch.testing.assert_close(stacked.params[name], tensor, rtol=1e-4, atol=1e-5)
    assert serial.clock.job_seconds == stacked.clock.job_seconds == pooled.clock.job_seconds


def test_hands_are_dealt_for_all_places():
    """A worker that joins others gets the share of one, not all that is left: nothing is."""
    task, data = make_two_class_workers(stream(SEED, "demo"))
    method = ist(replace(task, model=mlp((8, 12, 6), stream(0, "net")), workers=3))
    here = AsynchronousRounds(method, Serial(data.__getitem__), Concurrency(6, 3), SEED, FEDASYNC)
    state = initialise_state(method)
    for _ in range(6):
        state, arrived = await_commit(here, state)
        assert [len(job.share.part.axes["h1"]) for job in arrived.jobs] == [4]
        state = replace(state, round=state.round + 1)


def test_waves_of_a_round_draw_apart():
    """Those sent out later in a round are dealt other units, and others are drawn."""
    schedule = Schedule("buffered", 3, speeds=Speeds(values=(1.0, 1.5, 2.0, 5.0, 5.0, 5.0)))
    here = async_plan(schedule, "asyncdrop", limit=4)
    state, arrived = await_commit(here, initialise_state(here.method))
    jobs = [*arrived.jobs, *(one.job for one in state.clock.in_flight)]
    kept = {tuple(job.share.part.axes["h1"].tolist()) for job in jobs}
    assert len(jobs) > 4
    assert len(kept) == len(jobs)


def test_the_idle_are_drawn_evenly():
    count = torch.zeros(6)
    for place in range(600):
        drawn = draw_idle_workers(Concurrency(6, 2), {1, 4}, 2, stream(place, "idle"))
        assert len(set(drawn)) == 2
        count[list(drawn)] += 1
    assert count[[1, 4]].tolist() == [0, 0]
    assert ((count[[0, 2, 3, 5]] / 600 - 0.5).abs() < 0.08).all()


def test_durations():
    """By turns, between two values, around a median; jitter by job; size where it counts."""
    task, _ = make_two_class_workers(stream(SEED, "demo"))
    method = fedavg(task)
    job = next(iter(make_jobs(method, initialise_state(method), [4], {}, SEED)))
    whole = sum(t.numel() for t in job.piece.values())
    assert Speeds(values=(1.0, 2.0, 7.0)).job(job, whole) == 2.0
    draws = torch.tensor([Speeds("uniform", (2.0, 4.0)).worker(0, w) for w in range(400)])
    assert draws.min() >= 2
    assert draws.max() <= 4
    assert abs(float(draws.mean()) - 3) < 0.1
    logs = torch.tensor([Speeds("lognormal", (2.0, 0.5)).worker(0, w) for w in range(400)]).log()
    assert abs(float(logs.median().exp()) - 2) < 0.2
    assert abs(float(logs.std()) - 0.5) < 0.06
    jitter = Speeds(values=(1.0,), jitter=0.3)
    assert jitter.job(job, whole) == jitter.job(job, whole)
    assert jitter.job(job, whole) != jitter.job(replace(job, round=1), whole)
    half = Speeds(values=(3.0,), by_size=True)
    assert half.job(job, 2 * whole) == 1.5


@pytest.mark.parametrize(
    ("schedule", "word"),
    [
        (Schedule("buffered", 4), "schedule.size=4"),
        (Schedule("buffered", 0), "schedule.size=0"),
        (Schedule("never"), "'never'"),
        (Schedule("windowed", window=0.0), "window=0.0"),
        (Schedule("buffered", staleness="old"), "'old'"),
        (Schedule("buffered", rate=0.0), "rate=0.0"),
        (Schedule("buffered", speeds=Speeds("fast")), "'fast'"),
        (Schedule("buffered", speeds=Speeds("uniform", (1.0,))), "takes two"),
        (Schedule("buffered", speeds=Speeds(values=(1.0, 0.0))), "above 0"),
        (Schedule("windowed", window=math.nan), "window=nan"),
        (Schedule("windowed", window=math.inf), "all finite"),
        (Schedule("buffered", rate=math.nan), "rate=nan"),
        (Schedule("buffered", power=math.nan), "power=nan"),
        (Schedule("buffered", patience=math.nan), "patience=nan"),
        (Schedule("buffered", patience=math.inf), "patience=inf"),
        (Schedule("buffered", speeds=Speeds(jitter=math.nan)), "jitter=nan"),
        (Schedule("buffered", speeds=Speeds(values=(1.0, 2.0), jitter=math.nan)), "jitter=nan"),
        (Schedule(speeds=Speeds(values=(1.0,), jitter=math.inf)), "jitter and a sigma 0 to 10"),
        (Schedule("buffered", speeds=Speeds(jitter=1e3)), "jitter=1000.0"),
        (Schedule("buffered", speeds=Speeds(values=(math.nan,))), "(nan,)"),
        (Schedule("buffered", speeds=Speeds("lognormal", (1.0, math.nan))), "(1.0, nan)"),
    ],
)
def test_what_does_not_fit_is_refused(schedule, word):
    with pytest.raises(ValueError, match="schedule") as error:
        schedule.check(3)
    assert word in str(error.value)


def test_windows_that_are_next_to_nothing_end_with_the_next_reply():
    """Counted one by one they would never end: 10^15 of them, or steps that rounding swallows."""
    assert move_limit(1.0, 0.5, 2.25) == 2.5
    assert move_limit(1.0, 1e-15, 2.0) == 2.0
    assert move_limit(1.0, 1e-17, 1 + 1e-15) == 1 + 1e-15
    schedule = Schedule("windowed", window=1e-12, speeds=Speeds(values=(1.0, 2.5, 4.0)))
    assert drained(schedule, 3, 3, 2) == [(1.0, [(0, 0)]), (2.0, [(0, 1)])]


def test_scores_by_hand():
    """Sum of absolute moves over all tensors that carry the axis, blocks and repeats included."""
    axes = {"in": ("h", None), "out": (None, "h"), "qkv": (Along("h", 2, 2),), "free": (None,)}
    first = {
        "in": torch.zeros(2, 3), "out": torch.ones(1, 2), "qkv": torch.zeros(8),
        "free": torch.zeros(4),
    }  # fmt: skip
    now = {
        "in": torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.0, 2.0]]),
        "out": torch.tensor([[1.0, -3.0]]),
        "qkv": torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, -5.0]),
        "free": torch.full((4,), 9.0),
    }
    assert measure_movement(now, first, axes, "h").tolist() == [4.0, 11.0]


def test_the_fast_drop_what_moved_most():
    """Eight units that moved 0..7; of four workers the fastest drops 7 and 6, and so on."""
    axes, first = {"w": ("h",)}, {"w": torch.zeros(8)}
    method = METHODS["fedavg"].demo(stream(SEED, "demo")).method
    state = replace(initialise_state(method), params={"w": torch.arange(8.0)})
    clock = replace(state.clock, job_seconds={3: 1.0, 1: 2.0, 0: 3.0, 2: 4.0})
    split = Scored({"h": 8}, axes, first, 0.25, ranked=True)
    turn = Turn(0, (0, 1, 2, 3, 5), {}, stream(0, "turn"))
    shares = split(replace(state, clock=clock), turn)
    dropped = {w: set(range(8)) - set(s.part.axes["h"].tolist()) for w, s in shares.items()}
    assert {w: dropped[w] for w in range(4)} == {3: {7, 6}, 1: {5, 4}, 0: {3, 2}, 2: {1, 0}}
    assert len(dropped[5]) == 2  # its speed is not known: at random
    unranked = replace(split, ranked=False)(replace(state, clock=clock), turn)
    assert [len(s.part.axes["h"]) for s in unranked.values()] == [6] * 5


def test_the_last_window_is_clipped():
    assert drop_window(torch.arange(4), 0.9, 0.5).tolist() == [0, 1]
    assert drop_window(torch.arange(1), 0.0, 0.5).tolist() == [0]


def test_drawn_widths_are_no_wider_than_the_worker():
    split = Nested({"h": 8}, Widths((1.0, 0.5)), (1.0, 0.5, 0.25))
    state, seen = (
        initialise_state(METHODS["fedavg"].demo(stream(SEED, "demo")).method),
        {0: set(), 1: set()},
    )
    for place in range(40):
        shares = split(state, Turn(place, (0, 1), {}, stream(place, "widths")))
        for worker, share in shares.items():
            seen[worker].add(len(share.part.axes["h"]))
    assert seen == {0: {8, 4, 2}, 1: {4, 2}}
    with pytest.raises(ValueError, match="widths"):
        Widths((1.5,))


def carrying(rate: float, *, optimizer: str = "sgd", change: bool = False, late: bool = False):
    """Play ist with travelling memory under a pace, and give the states."""
    demo = METHODS["ist"].demo(stream(SEED, "demo"))
    local = LocalTraining(
        optimizer, 0.05, momentum=0.9, batch=16, epochs=0, steps=3, optimizer_state="send"
    )
    task = Task(demo.method.model, local, workers=3, seed=SEED)
    speeds = FEDASYNC.speeds if late else Speeds()
    schedule = Schedule("buffered", 1, rate=rate, change=change, speeds=speeds)
    here = AsynchronousRounds(
        ist(task), Serial(demo.data.__getitem__), Concurrency(6, 3), SEED, schedule
    )
    states = [initialise_state(here.method)]
    for _ in range(8 if late else 1):
        states.append(here.advance(states[-1])[0])
    return states


def test_travelling_memory_is_drawn_back_as_the_piece_is():
    """The first reply finds what was sent, so both go the same share of the way."""
    start, whole = carrying(1.0)
    _, slight = carrying(0.25)
    for name, velocity in whole.optimizer_state["velocity"].items():
        assert velocity.abs().max() > 0
        torch.testing.assert_close(slight.optimizer_state["velocity"][name], 0.25 * velocity)
        way = whole.params[name] - start.params[name]
        torch.testing.assert_close(slight.params[name] - start.params[name], 0.25 * way)


@pytest.mark.parametrize("rate", [0.5, 1.5])
def test_a_mean_of_squares_never_falls_below_nothing(rate):
    for state in carrying(rate, optimizer="adam", change=True, late=True):
        assert all((t >= 0).all() for t in state.optimizer_state["square"].values())
        assert all(t.isfinite().all() for t in state.params.values())


def test_hands_that_stay_are_their_workers_also_where_nobody_waits():
    """Later waves are of one worker; it must get its own hand, not the first."""
    demo = METHODS["ist"].demo(stream(SEED, "demo"))
    local = LocalTraining(batch=16, epochs=0, steps=2)
    task = Task(demo.method.model, local, workers=3, seed=SEED)
    engine, schedule = (
        Serial(demo.data.__getitem__),
        Schedule("buffered", 1, speeds=FEDASYNC.speeds),
    )
    here = AsynchronousRounds(ist(task, fresh=False), engine, Concurrency(3, 3), SEED, schedule)
    state, hands = initialise_state(here.method), {}
    for _ in range(8):
        state, arrived = await_commit(here, state)
        for job in arrived.jobs:
            for axis, ids in job.share.part.axes.items():
                hands.setdefault((axis, job.worker), set()).add(tuple(ids.tolist()))
        state = replace(state, round=state.round + 1)
    assert all(len(kept) == 1 for kept in hands.values())
    for axis in {axis for axis, _ in hands}:
        each = [one for (name, _), kept in hands.items() if name == axis for one in kept]
        units = [unit for hand in each for unit in hand]
        assert len(each) == 3
        assert len(units) == len(set(units)) == 96
