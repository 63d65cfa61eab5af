"""Asynchronous rounds: order, weights, places and equality with the synchronous round."""

import math
from dataclasses import replace

import pytest
import torch

from moiety.core.axes import Along
from moiety.core.rows import Seen
from moiety.core.state import Record, Reply, Turn
from moiety.core.streams import stream
from moiety.engine.pool import Pool
from moiety.engine.serial import Serial
from moiety.engine.vectorized import Vectorized
from moiety.methods import METHODS
from moiety.methods.demo import two_classes
from moiety.methods.fedavg import fedavg
from moiety.methods.ist import ist
from moiety.methods.task import Local, Task
from moiety.models.mlp import mlp
from moiety.rounds import asynchronous
from moiety.rounds.asynchronous import Course, Crew, beyond, gather, idle, weigh
from moiety.rounds.schedule import Pace, Speeds
from moiety.rounds.synchronous import begin, commit, dispatch, play
from moiety.run.cohort import Uniform
from moiety.split.nested import Nested, Widths
from moiety.split.scored import Scored, moved, without

SEED = 3
FEDASYNC = Pace("buffer", 1, rate=0.5, speeds=Speeds(values=(1.0, 2.5, 4.0)))
FEDBUFF = Pace("buffer", 2, staleness="polynomial", change=True, speeds=FEDASYNC.speeds)


def course(pace, name="fedavg", places=3, population=6, engine=Serial):
    demo = METHODS[name].demo(stream(SEED, "demo"))
    made = engine(demo.data.__getitem__)
    return Course(demo.method, made, pace, Crew(population, places), SEED)


def same(a, b) -> bool:
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", ["fedavg", "ist", "fedper", "diloco", "asyncdrop", "fjord"])
@pytest.mark.parametrize("pace", [Pace("buffer", 6), Pace("window", window=1.0)])
@pytest.mark.parametrize("staleness", ["constant", "polynomial"])
def test_all_at_one_speed_is_the_synchronous_round(name, pace, staleness):
    """Bit for bit, whatever the staleness costs: nobody is late."""
    pace = replace(pace, staleness=staleness, change=staleness == "polynomial")
    one, two = course(pace, name, places=6), course(pace, name, places=6)
    state = other = begin(one.method)
    for _ in range(3):
        state = asynchronous.play(one, state)
        other = play(two.method, two.engine, other, range(6), SEED)
        other = replace(other, clock=state.clock)  # as a run with declared speeds has it
    assert same(state.params, other.params)
    assert state.clock.now == 3.0
    assert not state.clock.flight


def test_who_is_drawn_is_who_a_synchronous_round_draws():
    one = course(Pace("buffer", 3))
    state = begin(one.method)
    for round_index in range(4):
        state, due = gather(one, state)
        assert tuple(job.worker for job in due.jobs) == Uniform(6, 3)(round_index, SEED)
        state = replace(state, round=state.round + 1)


def drained(pace, places, population, rounds):
    """Give virtual time and workers of some commits."""
    here = course(pace, places=places, population=population)
    state, found = begin(here.method), []
    for _ in range(rounds):
        state, due = gather(here, state)
        found.append((state.clock.now, [(job.worker, job.round) for job in due.jobs]))
        state = replace(state, round=state.round + 1)
    return found


def test_finishing_follows_the_declared_speeds_by_hand():
    """Seconds 1, 2.5 and 4; everyone starts at 0 and again when it was committed."""
    pace = Pace("buffer", 1, speeds=Speeds(values=(1.0, 2.5, 4.0)))
    assert drained(pace, 3, 3, 7) == [
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
    pace = Pace("buffer", 2, speeds=Speeds(values=(1.0, 2.5, 4.0)))
    assert drained(pace, 3, 3, 3) == [
        (2.5, [(0, 0), (1, 0)]),
        (4.0, [(0, 1), (2, 0)]),
        (5.0, [(0, 2), (1, 1)]),
    ]


def test_windows_by_hand():
    """Of 2 s: worker 0 alone; then all that are back by 4 s; empty windows pass."""
    pace = Pace("window", window=2.0, speeds=Speeds(values=(1.0, 2.5, 4.0)))
    assert drained(pace, 3, 3, 2) == [(2.0, [(0, 0)]), (4.0, [(0, 1), (1, 0), (2, 0)])]
    slow = Pace("window", window=2.0, speeds=Speeds(values=(5.0,)))
    assert drained(slow, 3, 3, 2) == [
        (6.0, [(0, 0), (1, 0), (2, 0)]),
        (12.0, [(0, 1), (1, 1), (2, 1)]),
    ]


@pytest.mark.parametrize("pace", [FEDASYNC, FEDBUFF, Pace("window", speeds=FEDASYNC.speeds)])
def test_nobody_has_two_jobs(pace):
    here = course(pace, places=4, population=5)
    state, seen = begin(here.method), set()
    for _ in range(25):
        state, due = gather(here, state)
        busy = [one.job.worker for one in state.clock.flight]
        both = busy + [job.worker for job in due.jobs]
        assert len(both) == len(set(both))
        assert len(busy) <= 4
        for job in due.jobs:
            assert (job.round, job.worker) not in seen  # or its randomness would repeat
            seen.add((job.round, job.worker))
        state = replace(state, round=state.round + 1)


def stale(pace, late):
    """Weigh a reply of 3 to a job of 1, cut ``late`` commits ago; the server is at 2 by now."""
    here = course(pace)
    state = replace(begin(here.method), round=late)
    one = {name: torch.ones_like(t) for name, t in state.params.items()}
    job = replace(next(iter(dispatch(here.method, state, [0], {}, SEED))), round=0, piece=one)
    state = replace(state, params={name: 2 * t for name, t in one.items()})
    reply = Reply(0, job.share, {name: 3 * t for name, t in one.items()}, record=Record(born=0))
    after = commit(here.method, state, weigh(here, state, [job], [reply]))
    return float(after.params["layer1.b"][0])


def test_staleness_weights_by_hand():
    """Server 2, sent 1, found 3, three commits late: towards 3, or by the change of 2."""
    assert stale(Pace("buffer"), 3) == 3
    assert stale(Pace("buffer", rate=0.5), 3) == 2.5
    assert stale(Pace("buffer", rate=0.5, staleness="polynomial"), 3) == 2.25
    assert stale(Pace("buffer", staleness="polynomial", power=1.0), 3) == 2.25
    assert stale(Pace("buffer", staleness="hinge", power=1.0, patience=2), 3) == 2.5
    assert stale(Pace("buffer", staleness="hinge", power=1.0, patience=3), 3) == 3
    assert stale(Pace("buffer", change=True), 3) == 4
    assert stale(Pace("buffer", change=True, staleness="polynomial"), 3) == 3


def test_a_buffer_is_fedbuffs_sum():
    """x + (1/K) sum s (x_w - x_0), section 3 of FedBuff, with its own staleness for each."""
    here = course(replace(FEDBUFF, size=3))
    state = begin(here.method)
    for _ in range(4):
        state, due = gather(here, state)
        replies = list(here.engine.map(here.method.solve, due.jobs))
        after = commit(here.method, state, weigh(here, state, due.jobs, replies))
        for name, old in state.params.items():
            wanted = old.clone()
            for job, reply in zip(due.jobs, replies, strict=True):
                late = 1 + state.round - job.round
                wanted += (reply.piece[name] - job.piece[name]) / late**0.5 / 3
            torch.testing.assert_close(after.params[name], wanted)
        state = after
    assert any(job.round < state.round - 1 for job in due.jobs)


@pytest.mark.parametrize("name", ["fedavg", "ddome", "fedper", "asyncdrop", "heterofl"])
@pytest.mark.parametrize("pace", [FEDASYNC, FEDBUFF])
def test_every_engine_agrees(name, pace):
    ends = []
    for engine in (Serial, Vectorized, lambda rows: Pool(rows, processes=2)):
        demo = METHODS[name].demo(stream(SEED, "demo"))
        view = demo.method.view
        rows = demo.data.__getitem__ if view is None else Seen(demo.data.__getitem__, view)
        made = engine(rows)
        here = Course(demo.method, made, pace, Crew(6, 3), SEED)
        state = begin(demo.method)
        for _ in range(5):
            state = asynchronous.play(here, state)
        made.close()
        ends.append(state)
    serial, stacked, pooled = ends
    assert same(pooled.params, serial.params)
    for name, tensor in serial.params.items():
        torch.testing.assert_close(stacked.params[name], tensor, rtol=1e-4, atol=1e-5)
    assert serial.clock.took == stacked.clock.took == pooled.clock.took


def test_hands_are_dealt_for_all_places():
    """A worker that joins others gets the share of one, not all that is left: nothing is."""
    task, data = two_classes(stream(SEED, "demo"))
    method = ist(replace(task, model=mlp((8, 12, 6), stream(0, "net")), workers=3))
    here = Course(method, Serial(data.__getitem__), FEDASYNC, Crew(6, 3), SEED)
    state = begin(method)
    for _ in range(6):
        state, due = gather(here, state)
        assert [len(job.share.part.axes["h1"]) for job in due.jobs] == [4]
        state = replace(state, round=state.round + 1)


def test_waves_of_a_round_draw_apart():
    """Those sent out later in a round are dealt other units, and others are drawn."""
    pace = Pace("buffer", 3, speeds=Speeds(values=(1.0, 1.5, 2.0, 5.0, 5.0, 5.0)))
    here = course(pace, "asyncdrop", places=4)
    state, due = gather(here, begin(here.method))
    jobs = [*due.jobs, *(one.job for one in state.clock.flight)]
    kept = {tuple(job.share.part.axes["h1"].tolist()) for job in jobs}
    assert len(jobs) > 4
    assert len(kept) == len(jobs)


def test_the_idle_are_drawn_evenly():
    count = torch.zeros(6)
    for place in range(600):
        drawn = idle(Crew(6, 2), {1, 4}, 2, stream(place, "idle"))
        assert len(set(drawn)) == 2
        count[list(drawn)] += 1
    assert count[[1, 4]].tolist() == [0, 0]
    assert ((count[[0, 2, 3, 5]] / 600 - 0.5).abs() < 0.08).all()


def test_durations():
    """By turns, between two values, around a median; jitter by job; size where it counts."""
    task, _ = two_classes(stream(SEED, "demo"))
    method = fedavg(task)
    job = next(iter(dispatch(method, begin(method), [4], {}, SEED)))
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
    ("pace", "word"),
    [
        (Pace("buffer", 4), "pace.size=4"),
        (Pace("buffer", 0), "pace.size=0"),
        (Pace("never"), "'never'"),
        (Pace("window", window=0.0), "window=0.0"),
        (Pace("buffer", staleness="old"), "'old'"),
        (Pace("buffer", rate=0.0), "rate=0.0"),
        (Pace("buffer", speeds=Speeds("fast")), "'fast'"),
        (Pace("buffer", speeds=Speeds("uniform", (1.0,))), "takes two"),
        (Pace("buffer", speeds=Speeds(values=(1.0, 0.0))), "above 0"),
        (Pace("window", window=math.nan), "window=nan"),
        (Pace("window", window=math.inf), "all finite"),
        (Pace("buffer", rate=math.nan), "rate=nan"),
        (Pace("buffer", power=math.nan), "power=nan"),
        (Pace("buffer", patience=math.nan), "patience=nan"),
        (Pace("buffer", patience=math.inf), "patience=inf"),
        (Pace("buffer", speeds=Speeds(jitter=math.nan)), "jitter=nan"),
        (Pace("buffer", speeds=Speeds(values=(1.0, 2.0), jitter=math.nan)), "jitter=nan"),
        (Pace(speeds=Speeds(values=(1.0,), jitter=math.inf)), "jitter and a sigma 0 to 10"),
        (Pace("buffer", speeds=Speeds(jitter=1e3)), "jitter=1000.0"),
        (Pace("buffer", speeds=Speeds(values=(math.nan,))), "(nan,)"),
        (Pace("buffer", speeds=Speeds("lognormal", (1.0, math.nan))), "(1.0, nan)"),
    ],
)
def test_what_does_not_fit_is_refused(pace, word):
    with pytest.raises(ValueError, match="pace") as error:
        pace.check(3)
    assert word in str(error.value)


def test_windows_that_are_next_to_nothing_end_with_the_next_reply():
    """Counted one by one they would never end: 10^15 of them, or steps that rounding swallows."""
    assert beyond(1.0, 0.5, 2.25) == 2.5
    assert beyond(1.0, 1e-15, 2.0) == 2.0
    assert beyond(1.0, 1e-17, 1 + 1e-15) == 1 + 1e-15
    pace = Pace("window", window=1e-12, speeds=Speeds(values=(1.0, 2.5, 4.0)))
    assert drained(pace, 3, 3, 2) == [(1.0, [(0, 0)]), (2.0, [(0, 1)])]


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
    assert moved(now, first, axes, "h").tolist() == [4.0, 11.0]


def test_the_fast_drop_what_moved_most():
    """Eight units that moved 0..7; of four workers the fastest drops 7 and 6, and so on."""
    axes, first = {"w": ("h",)}, {"w": torch.zeros(8)}
    method = METHODS["fedavg"].demo(stream(SEED, "demo")).method
    state = replace(begin(method), params={"w": torch.arange(8.0)})
    clock = replace(state.clock, took={3: 1.0, 1: 2.0, 0: 3.0, 2: 4.0})
    split = Scored({"h": 8}, axes, first, 0.25, ranked=True)
    turn = Turn(0, (0, 1, 2, 3, 5), {}, stream(0, "turn"))
    shares = split(replace(state, clock=clock), turn)
    dropped = {w: set(range(8)) - set(s.part.axes["h"].tolist()) for w, s in shares.items()}
    assert {w: dropped[w] for w in range(4)} == {3: {7, 6}, 1: {5, 4}, 0: {3, 2}, 2: {1, 0}}
    assert len(dropped[5]) == 2  # its speed is not known: at random
    unranked = replace(split, ranked=False)(replace(state, clock=clock), turn)
    assert [len(s.part.axes["h"]) for s in unranked.values()] == [6] * 5


def test_the_last_window_is_clipped():
    assert without(torch.arange(4), 0.9, 0.5).tolist() == [0, 1]
    assert without(torch.arange(1), 0.0, 0.5).tolist() == [0]


def test_drawn_widths_are_no_wider_than_the_worker():
    split = Nested({"h": 8}, Widths((1.0, 0.5)), (1.0, 0.5, 0.25))
    state, seen = begin(METHODS["fedavg"].demo(stream(SEED, "demo")).method), {0: set(), 1: set()}
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
    local = Local(optimizer, 0.05, momentum=0.9, batch=16, epochs=0, steps=3, moments="carry")
    task = Task(demo.method.model, local, workers=3, seed=SEED)
    speeds = FEDASYNC.speeds if late else Speeds()
    pace = Pace("buffer", 1, rate=rate, change=change, speeds=speeds)
    here = Course(ist(task), Serial(demo.data.__getitem__), pace, Crew(6, 3), SEED)
    states = [begin(here.method)]
    for _ in range(8 if late else 1):
        states.append(asynchronous.play(here, states[-1]))
    return states


def test_travelling_memory_is_drawn_back_as_the_piece_is():
    """The first reply finds what was sent, so both go the same share of the way."""
    start, whole = carrying(1.0)
    _, slight = carrying(0.25)
    for name, velocity in whole.slots["velocity"].items():
        assert velocity.abs().max() > 0
        torch.testing.assert_close(slight.slots["velocity"][name], 0.25 * velocity)
        way = whole.params[name] - start.params[name]
        torch.testing.assert_close(slight.params[name] - start.params[name], 0.25 * way)


@pytest.mark.parametrize("rate", [0.5, 1.5])
def test_a_mean_of_squares_never_falls_below_nothing(rate):
    for state in carrying(rate, optimizer="adam", change=True, late=True):
        assert all((t >= 0).all() for t in state.slots["square"].values())
        assert all(t.isfinite().all() for t in state.params.values())


def test_hands_that_stay_are_their_workers_also_where_nobody_waits():
    """Later waves are of one worker; it must get its own hand, not the first."""
    demo = METHODS["ist"].demo(stream(SEED, "demo"))
    local = Local(batch=16, epochs=0, steps=2)
    task = Task(demo.method.model, local, workers=3, seed=SEED)
    engine, pace = Serial(demo.data.__getitem__), Pace("buffer", 1, speeds=FEDASYNC.speeds)
    here = Course(ist(task, fresh=False), engine, pace, Crew(3, 3), SEED)
    state, hands = begin(here.method), {}
    for _ in range(8):
        state, due = gather(here, state)
        for job in due.jobs:
            for axis, ids in job.share.part.axes.items():
                hands.setdefault((axis, job.worker), set()).add(tuple(ids.tolist()))
        state = replace(state, round=state.round + 1)
    assert all(len(kept) == 1 for kept in hands.values())
    for axis in {axis for axis, _ in hands}:
        each = [one for (name, _), kept in hands.items() if name == axis for one in kept]
        units = [unit for hand in each for unit in hand]
        assert len(each) == 3
        assert len(units) == len(set(units)) == 96
