"""Secure sums in rounds: every engine, methods of parts, what is refused, bytes."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from moiety.core.axes import Part
from moiety.core.rows import TableRows
from moiety.core.state import Reply, Share
from moiety.core.streams import stream
from moiety.engine.letters import read_job, read_reply, write_job, write_reply
from moiety.engine.pool import Pool
from moiety.engine.serial import Serial
from moiety.engine.vectorized import Vectorized
from moiety.merge.robust import choose_merge
from moiety.merge.rules import Merging
from moiety.methods import METHODS
from moiety.methods.task import LocalTraining, Task
from moiety.models.mlp import mlp
from moiety.rounds.cohort import FixedCohort
from moiety.rounds.synchronous import SynchronousRounds, initialise_state, make_jobs
from moiety.secure.config import SecureConfig, apply_secure

MODEL = mlp((8, 12, 3), stream(0, "net"))
X = torch.randn(36, 8, generator=stream(1))
SIZES = (0, 5, 11, 20, 36)
ROWS = {
    w: TableRows({"x": X, "y": (X[:, 0] > 0).long()}, torch.arange(SIZES[w], SIZES[w + 1]))
    for w in range(4)
}
LOCAL = LocalTraining(lr=0.1, momentum=0.0, batch=4)
TASK = Task(MODEL, LOCAL, workers=4, classes=3, population=4)
THREE = SecureConfig(threshold=3)
AXES = {entry for entries in MODEL.axes.values() for entry in entries if isinstance(entry, str)}


def make(name, config=THREE, task=TASK, **options):
    return apply_secure(METHODS[name].make(task, **options), config, 4, 7)


def play(method, make_engine: Any = Serial, rounds=2):
    """Play some rounds; state and ledger entries."""
    engine, state, told = make_engine(ROWS.__getitem__), initialise_state(method), []
    played = SynchronousRounds(method, engine, FixedCohort((0, 1, 2, 3)), 7)
    for _ in range(rounds):
        state, entry = played.advance(state)
        told.append(entry)
    engine.close()
    return state, told


@pytest.mark.parametrize(
    ("name", "options"), [("fedavg", {}), ("heterofl", {"widths": (1.0, 0.5, 1.0, 1.0)})]
)
@pytest.mark.parametrize("by_rows", [False, True])
def test_the_mean_is_that_of_the_holders_within_a_step(name, options, by_rows):
    """Of rows that weigh, too; one number of the ring is off by half a step at most."""
    task = replace(TASK, local=replace(LOCAL, by_rows=by_rows))
    config = replace(THREE, rows=16 * by_rows)
    plain = play(METHODS[name].make(task, **options), rounds=1)[0].params
    found = play(make(name, config, task, **options), rounds=1)[0].params
    bound = 8.0 * 16**by_rows * 4 / (2**31 - 4) / 2 + 1e-6  # float32 rounds numbers of about 1
    for name_, tensor in plain.items():
        assert not torch.equal(tensor, MODEL.params[name_])
        torch.testing.assert_close(found[name_], tensor, rtol=0, atol=bound)


def test_every_engine_gives_the_same_bits():
    state, told = play(make("fjord"))
    for engine in (lambda rows: Pool(rows, processes=2), Vectorized):
        other, entries = play(make("fjord"), engine)
        close = torch.equal if engine is not Vectorized else torch.allclose
        assert all(close(other.params[n], t) for n, t in state.params.items())
        assert [(e.down_bytes, e.up_bytes) for e in entries] == [
            (e.down_bytes, e.up_bytes) for e in told
        ]


def test_what_too_few_hold_keeps_its_value_and_is_never_sent():
    """Two of four workers hold the upper half of the units: nobody sends a number of these."""
    method = make("heterofl", widths=(1.0, 0.5, 1.0, 0.5))
    state, (entry, _) = play(method)
    for name, before in MODEL.params.items():
        axis = next((d for d, e in enumerate(MODEL.axes.get(name, ())) if e is not None), None)
        after = state.params[name]
        if axis is None:
            assert not torch.equal(after, before)
            continue
        low, high = torch.arange(6), torch.arange(6, 12)
        assert torch.equal(after.index_select(axis, high), before.index_select(axis, high))
        assert not torch.equal(after.index_select(axis, low), before.index_select(axis, low))
    assert len({work.up_bytes for work in entry.workers}) == 1


def test_a_reply_is_a_vector_of_the_ring_and_letters_carry_it():
    method = make(
        "fedavg", replace(THREE, rows=16), replace(TASK, local=replace(LOCAL, by_rows=True))
    )
    job = next(make_jobs(method, initialise_state(method), range(4), {}, 7))
    read, _ = read_job(write_job(job, {}), lambda note, number: {})
    assert {w: part.names for w, part in read.share.holders.items()} == dict.fromkeys(range(4))
    (reply,) = Serial(ROWS.__getitem__).map(method.solve, [method.wire.open(read)])
    (vector,) = read_reply(write_reply(reply)).answer.values()
    assert vector.dtype == torch.int32
    assert int(vector[0]) == ROWS[0].size
    assert not reply.piece
    size = sum(t.numel() for t in MODEL.params.values())
    assert reply.up_bytes == 4 * (1 + size) + 64 + 4 * 92 + 4 * 32
    assert job.down_bytes == 4 * size + 4 * 64 + 4 * 92


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answer": {}}, "it has nothing to add up"),
        ({"answer": {"0": torch.zeros(5, dtype=torch.int32)}}, "its vectors are not those"),
        ({"answer": {"0": torch.zeros(172)}}, "its vectors are not those"),
        ({"piece": {"x": torch.zeros(1)}}, "its vectors are not those"),
    ],
)
def test_a_reply_of_another_form_is_refused(change, said):
    method = make("fedavg")
    job = next(make_jobs(method, initialise_state(method), range(4), {}, 7))
    with pytest.raises(ValueError, match=said):
        method.wire.read(
            job, replace(Reply(0, job.share, {}, answer={"0": torch.zeros(1)}), **change)
        )


def test_a_worker_beyond_the_range_adds_nothing_and_too_few_end_the_run():
    method = make("fedavg", replace(THREE, range=1e-9))
    with pytest.raises(ValueError, match=r"no reply was accepted.*lower local.lr, or raise these"):
        play(method)
    merge = make("fedavg").merge.begin(method.store(MODEL.params, MODEL.axes))
    merge.add(Reply(0, Share(holders=dict.fromkeys(range(4), Part())), {}))
    with pytest.raises(ValueError, match="1 replies were accepted, and a sum of fewer than"):
        merge.close()


REFUSED = {
    "ist": ("ist", {}, "no index of .* has more than 1 of a round's 4: a sum of one is the indiv"),
    "scaffold": ("scaffold", {}, "send memory besides"),
    "fisher": ("fisher", {}, "tell how well they know what they send"),
    "sent state": ("fedavg", {"optimizer_state": "send"}, "send memory besides"),
}


@pytest.mark.parametrize(("name", "local", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_sum_is_refused_at_construction(name, local, said):
    task = replace(TASK, local=replace(LOCAL, momentum=0.9, **local))
    with pytest.raises(ValueError, match=said):
        make(name, task=task)


def test_parts_that_fewer_than_enough_hold_are_refused():
    """Units that two hold each: enough for a threshold of two, and not for three."""

    parts = [Part(dict.fromkeys(AXES, torch.arange(6) + 6 * pair)) for pair in (0, 1)]

    def split_in_pairs(_, turn):
        return {worker: Share(parts[worker // 2]) for worker in turn.cohort}

    method = replace(METHODS["fedavg"].make(TASK), split=split_in_pairs)
    assert apply_secure(method, SecureConfig(2), 4, 7).split != method.split
    with pytest.raises(ValueError, match=r"no index of h\d has more than 2 of a round's 4\."):
        apply_secure(method, THREE, 4, 7)


def test_a_merge_that_needs_individuals_refuses_sums():
    method = choose_merge(METHODS["fedavg"].make(TASK), Merging("median"))
    with pytest.raises(ValueError, match=r"merge.kind='median' looks at every reply by itself"):
        apply_secure(method, THREE, 4, 7)


@pytest.mark.parametrize(
    ("config", "workers", "said"),
    [
        (SecureConfig(range=4.0), 4, "read with secure.threshold alone"),
        (SecureConfig(1), 4, "a sum of one is the individual; choose 2"),
        (SecureConfig(3, range=0.0), 4, "choose a finite range above 0"),
        (SecureConfig(5), 4, "but a round has 4 workers"),
        (SecureConfig(3, rows=9), 4, "local.by_rows=False, secure.rows=9"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(config, workers, said):
    with pytest.raises(ValueError, match=said):
        apply_secure(METHODS["fedavg"].make(TASK), config, workers, 7)


def test_without_a_threshold_nothing_is_another():
    method = METHODS["fedavg"].make(TASK)
    assert apply_secure(method, SecureConfig(), 4, 7) is method
