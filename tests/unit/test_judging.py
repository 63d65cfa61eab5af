"""Replies are judged before they are merged, in every engine; a round goes on without the bad."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch

from moiety.core.axes import Part
from moiety.core.fold import Precision
from moiety.core.rows import TableRows, TransformedRows
from moiety.core.state import Job, Reply, Share, measure_change
from moiety.core.transfers import Transfers
from moiety.engine.collective import strip_reply
from moiety.engine.pool import Pool
from moiety.engine.serial import Serial
from moiety.engine.vectorized import Vectorized
from moiety.methods.ddome import demo as ddome_demo
from moiety.methods.fedavg import fedavg
from moiety.methods.task import LocalTraining, Task
from moiety.models.mlp import mlp
from moiety.rounds.asynchronous import AsynchronousRounds, Concurrency
from moiety.rounds.cohort import FixedCohort
from moiety.rounds.judging import Judging, find_fault
from moiety.rounds.schedule import Schedule
from moiety.rounds.synchronous import SynchronousRounds, initialise_state

MODEL = mlp((4, 3, 2), torch.Generator().manual_seed(0))
METHOD = fedavg(Task(MODEL, LocalTraining(lr=0.1, batch=4), workers=3, classes=2))
X = torch.randn(30, 4, generator=torch.Generator().manual_seed(1))
ROWS = {w: TableRows({"x": X, "y": (X[:, 0] > 0).long()}, torch.arange(w, 30, 3)) for w in range(3)}
FIRST = {"layer1.w": torch.ones(3, 4), "n": torch.ones((), dtype=torch.long)}
PART = Part({"h1": torch.tensor([0, 2])})
JOB = Job(0, 0, 7, Share(PART), FIRST, {"moment": {"layer1.w": torch.zeros(3, 4)}})
GOOD = Reply(7, Share(PART), FIRST, optimizer_state=JOB.optimizer_state)


def put(name, tensor):
    """Change one tensor of a reply."""
    return lambda reply: replace(reply, piece={**reply.piece, name: tensor})


BAD = {
    "a fault of its own": (lambda r: replace(r, fault="out of memory"), "out of memory"),
    "a number that is none": (
        lambda r: put("layer1.w", r.piece["layer1.w"] * torch.tensor([torch.nan, 1, 1, 1]))(r),
        "3 of 12 numbers of layer1.w are not finite",
    ),
    "infinity": (lambda r: put("layer1.w", r.piece["layer1.w"] / 0)(r), "12 of 12 numbers"),
    "huge": (lambda r: put("layer1.w", r.piece["layer1.w"] * 1e30)(r), "norm of what it changed"),
    "a norm too large": (
        lambda r: put("layer1.w", r.piece["layer1.w"] + 1e6)(r), r"3.46e\+06, above 4.46e\+04",
    ),
    "another shape": (
        lambda r: put("layer1.w", torch.ones(4, 3))(r), r"float32 \[4, 3\], not float32 \[3, 4\]",
    ),
    "another type": (lambda r: put("layer1.w", FIRST["layer1.w"].double())(r), "is float64"),
    "a name too many": (put("layer9.w", torch.ones(1)), r"has \['layer9.w'\] besides"),
    "a name too few": (lambda r: replace(r, piece={"n": FIRST["n"]}), r"lacks \['layer1.w'\]"),
    "nothing at all": (lambda r: replace(r, piece={}), "lacks"),
    "another part": (
        lambda r: replace(r, share=Share(Part({"h1": torch.tensor([0, 1])}))), "not the one asked",
    ),
    "another axis": (lambda r: replace(r, share=Share(Part())), "the whole, not the one asked"),
    "another role": (lambda r: replace(r, share=Share(PART, "anchor")), "the role 'anchor'"),
    "no memory": (lambda r: replace(r, optimizer_state={}), "has the sections"),
    "spoilt memory": (
        lambda r: replace(r, optimizer_state={"moment": {"layer1.w": torch.ones(3, 4) / 0}}),
        "of its moment, 12 of 12",
    ),
    "a weight below 0": (lambda r: replace(r, precision=Precision(-1.0)), "its weight is -1.0"),
    "a weight that is none": (
        lambda r: replace(r, precision=Precision(axes={"h1": torch.tensor([1.0, torch.nan])})),
        "weights of h1",
    ),
    "an answer that is none": (
        lambda r: replace(r, answer={"top": torch.tensor([torch.nan])}), "numbers of top",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused(case):
    spoil, reason = BAD[case]
    assert not find_fault(JOB, GOOD, Judging())
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(find_fault(JOB, spoil(GOOD), Judging()))


def test_a_bound_is_of_the_change():
    far = put("layer1.w", FIRST["layer1.w"] + 2.0)(GOOD)  # by 2 sqrt(12), from a norm of sqrt(12)
    assert not find_fault(JOB, far, Judging(1.6))  # 6.93 <= 1.6 (1 + 3.46)
    assert find_fault(JOB, far, Judging(1.5))
    with pytest.raises(ValueError, match=r"judging.change=nan; choose"):
        Judging(float("nan"))


def test_a_piece_that_is_elsewhere_is_measured_where_it_is():
    """All ranks come to one verdict, though one alone has the numbers."""
    for case, (spoil, _) in BAD.items():
        if case == "a fault of its own":
            continue
        here = spoil(GOOD)
        there = strip_reply(JOB, here)
        assert all(t.is_meta for t in there.piece.values())
        assert bool(find_fault(JOB, there, Judging())) == bool(find_fault(JOB, here, Judging()))
    assert strip_reply(JOB, GOOD).change == measure_change(FIRST, GOOD.piece) == 0.0


@dataclass
class Hostile:
    """An engine of which some workers send something else, in some rounds."""

    inner: Any
    spoil: Any
    bad: frozenset[int]
    transfers: Transfers
    maps: int = 0
    memory: dict[int, Any] = field(default_factory=dict)

    def close(self):
        """Hold nothing open."""

    def map(self, solve, jobs, /):
        self.maps += 1
        for reply in self.inner.map(solve, jobs):
            yield self.spoil(reply) if reply.worker in self.bad else reply


def rounds_of(engine, kind="sync"):
    if kind == "sync":
        return SynchronousRounds(METHOD, engine, FixedCohort((0, 1, 2)), 5)
    return AsynchronousRounds(METHOD, engine, Concurrency(3, 3), 5, Schedule("buffered", 3))


@pytest.mark.parametrize("make", [Serial, Vectorized, lambda rows: Pool(rows, processes=1)])
@pytest.mark.parametrize("kind", ["sync", "buffered"])
def test_a_round_goes_on_without_the_bad(make, kind):
    """What is merged is what the others sent, to the bit."""

    def nan(reply):
        return put("layer1.w", reply.piece["layer1.w"] * torch.nan)(reply)

    hostile = Hostile(make(ROWS.__getitem__), nan, frozenset({1}), Transfers())
    state, told = rounds_of(hostile, kind).advance(initialise_state(METHOD))
    alone = SynchronousRounds(METHOD, make(ROWS.__getitem__), FixedCohort((0, 2)), 5)
    wanted, _ = alone.advance(initialise_state(METHOD))
    for name, tensor in wanted.params.items():
        assert torch.equal(state.params[name], tensor)
    assert [(one.worker, one.reason[:10]) for one in told.refused] == [(1, "12 of 12 n")]
    assert [work.worker for work in told.workers] == [0, 2]


@pytest.mark.parametrize("kind", ["sync", "buffered"])
def test_a_round_without_replies_is_repeated_and_then_the_run_ends(kind):
    def away(reply):
        return replace(reply, piece={}, fault="it is away")

    hostile = Hostile(Serial(ROWS.__getitem__), away, frozenset({0, 1, 2}), Transfers())
    rounds, state = rounds_of(hostile, kind), initialise_state(METHOD)
    with pytest.raises(
        ValueError, match=r"round 1: no reply .*, 2 times over \(worker 0: it is away"
    ):
        rounds.advance(state)
    assert hostile.maps == 2
    calm = replace(hostile, bad=frozenset({0, 1, 2}), maps=0)

    def once(reply):
        return away(reply) if calm.maps == 1 else reply

    calm.spoil = once
    after, told = rounds_of(calm, kind).advance(state)
    assert after.round == 1
    assert sorted(one.worker for one in told.refused) == [0, 1, 2]
    assert sorted(work.worker for work in told.workers) == [0, 1, 2]


ODD = {
    "no answer": (lambda r: replace(r, answer={}, fault="it is away"), "it is away"),
    "another shape": (
        lambda r: replace(r, answer={"ids": r.answer["ids"][:1]}), "it answers ids: int32 [1], not",
    ),
    "another name": (lambda r: replace(r, answer={"x": r.answer["ids"]}), "it answers x: int32"),
    "an index too high": (
        lambda r: replace(r, answer={"ids": r.answer["ids"] + 99}), "it names an index that is not",
    ),
    "an index twice": (
        lambda r: replace(r, answer={"ids": r.answer["ids"] * 0}), "it names an index twice",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_who_does_not_answer_a_question_well_gets_no_job(case):
    demo = ddome_demo(torch.Generator().manual_seed(0))
    silent = max(demo.data)
    assert demo.method.transform is not None

    def away(reply):
        return ODD[case][0](reply) if reply.answer else reply

    hostile = Hostile(
        Serial(TransformedRows(demo.data.__getitem__, demo.method.transform)),
        away,
        frozenset({silent}),
        Transfers(),
    )
    cohort = FixedCohort(tuple(demo.data))
    rounds = SynchronousRounds(demo.method, hostile, cohort, 5)
    _, told = rounds.advance(initialise_state(demo.method))
    assert [one.worker for one in told.refused] == [silent]
    assert told.refused[0].reason.startswith(ODD[case][1])
    assert [work.worker for work in told.workers] == [w for w in demo.data if w != silent]
