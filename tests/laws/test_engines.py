"""Every engine agrees with ``Serial``, wherever a run was cut and in whatever order jobs come."""

import math
from dataclasses import dataclass, field

import pytest
import torch

from moiety.core.protocols import Engine
from moiety.core.solver import Solve
from moiety.core.state import Reply


def records_agree(found, wanted, tolerance: float) -> None:
    """Compare what replies tell besides tensors."""
    for name in ("steps", "rows", "model_version"):
        assert getattr(found, name) == getattr(wanted, name)
    for name in ("loss_first", "loss_last", "loss_mean"):
        a, b = getattr(found, name), getattr(wanted, name)
        assert math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)


@dataclass
class Recorder:
    """An engine whose replies to a solver are kept, beside being given on."""

    engine: Engine
    solve: Solve
    replies: list[Reply] = field(default_factory=list)

    @property
    def memory(self):
        return self.engine.memory

    @property
    def transfers(self):
        return self.engine.transfers

    def map(self, solve, jobs):
        for reply in self.engine.map(solve, jobs):
            self.replies += [reply] if solve is self.solve else []
            yield reply


@pytest.mark.parametrize("kind", ["vectorized", "pool"])
def test_every_engine_agrees_with_serial(case, kind, tolerance, near):
    """Over three rosters: replies in job order, records, bytes, states and memories."""
    state, other = case.begin(), case.begin()
    one, two = (Recorder(case.engine(k), case.method.solve) for k in ("serial", kind))
    for cohort in case.cohorts(3):
        one.replies, two.replies = [], []
        state, other = case.play(one, state, 1), case.play(two, other, 1)
        assert [reply.worker for reply in two.replies] == list(cohort)
        for a, b in zip(two.replies, one.replies, strict=True):
            near(a.piece, b.piece, tolerance)
            near(a.answer, b.answer, tolerance)
            records_agree(a.record, b.record, tolerance)
            assert a.share.role == b.share.role
            near(a.share.part.axes, b.share.part.axes)
            assert a.up_bytes == b.up_bytes
        near(other.params, state.params, tolerance)
        near(other.server, state.server, tolerance)
        near(two.memory, one.memory, tolerance)
        assert other.round == state.round


def test_resuming_is_invisible(case, kind, near, copied):
    """State and memory, copied, in a new engine with a method built anew: the same bits."""
    engine = case.engine(kind)
    straight = case.play(engine, case.begin(), 3)

    first = case.again()
    half_engine = first.engine(kind)
    half = first.play(half_engine, first.begin(), 2)
    second = case.again()
    kept = {worker: copied(memory) for worker, memory in half_engine.memory.items()}
    torch.manual_seed(99)
    torch.rand(7)
    parts = (copied(tree) for tree in (half.params, half.server, half.optimizer_state))
    state = type(half)(*parts, half.round)
    resumed_engine = second.engine(kind, kept)
    resumed = second.play(resumed_engine, state, 1)
    near(resumed.params, straight.params)
    near(resumed.server, straight.server)
    near(resumed.optimizer_state, straight.optimizer_state)
    near(resumed_engine.memory, engine.memory)


def test_a_job_answers_for_itself(case, kind, tolerance, near, copied):
    """A reply depends on job, rows and memory: not on order, company, or what ran before."""
    engine = case.engine(kind)
    state = case.play(engine, case.begin(), 2)
    jobs = case.jobs(engine, state)
    before = {worker: copied(memory) for worker, memory in engine.memory.items()}

    def answers(jobs, engine):
        engine.memory.clear()
        engine.memory.update({worker: copied(memory) for worker, memory in before.items()})
        replies = {reply.worker: reply for reply in engine.map(case.method.solve, jobs)}
        return replies, dict(engine.memory)

    first, kept = answers(jobs, engine)
    for order in (jobs, jobs[::-1], jobs[2:3]):
        found, after = answers(order, engine)
        for worker, reply in found.items():
            near(reply.piece, first[worker].piece, tolerance)
            near(after.get(worker, {}), kept.get(worker, {}), tolerance)


def test_nothing_is_changed_in_place(case, kind, near, copied):
    engine = case.engine(kind)
    state = case.play(engine, case.begin(), 2)
    tables = {worker: rows.table for worker, rows in case.data.items()}
    constants = case.method.constants
    jobs = case.jobs(engine, state)
    kept = dict(engine.memory)
    watched = {
        "params": state.params,
        "outer": state.server,
        "first": case.method.model.params,
        "tables": {str(w): t for w, t in tables.items()},
        "constants": constants,
        "pieces": {str(job.worker): job.piece for job in jobs},
        "memory": {str(w): m for w, m in kept.items()},
    }
    before = copied(watched)
    replies = list(engine.map(case.method.solve, jobs))
    answered = {str(reply.worker): reply.piece for reply in replies}
    made = copied(answered)
    near(watched, before)
    case.play(engine, state, 1)
    list(engine.map(case.method.solve, jobs))
    near(watched, before)
    near(answered, made)


def test_a_round_draws_from_addresses_alone(case, kind, near):
    """The global generator neither matters nor moves."""
    torch.manual_seed(1)
    first = case.play(case.engine(kind), case.begin(), 2)
    torch.manual_seed(2)
    mark = torch.get_rng_state()
    second = case.play(case.engine(kind), case.begin(), 2)
    assert torch.equal(torch.get_rng_state(), mark)
    near(second.params, first.params)
