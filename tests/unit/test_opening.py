"""Experts that open while a run goes on, and those that nobody of a round holds."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from moiety.core.rows import TransformedRows
from moiety.core.state import State, Turn
from moiety.core.streams import stream
from moiety.engine.serial import Serial
from moiety.engine.vectorized import Vectorized
from moiety.methods.ddome import ddome, make_ddome_stages
from moiety.methods.demo import make_two_class_workers
from moiety.rounds.commit import commit_replies
from moiety.rounds.synchronous import initialise_state, make_jobs, play_round, query_jobs
from moiety.split.gated import Gated

TASK, DATA = make_two_class_workers(stream(0, "demo"))
ANCHORS = {0: 0, 1: 1, 2: 4}
"""The last one's expert opens late."""


def stages(opens=(2, 4), **choices):
    task = replace(TASK, anchors=ANCHORS, rounds=6)
    return make_ddome_stages(task, opens=opens, **{"experts": 5, **choices})


def play(method: Any, cohort=range(6)):
    """Play a round message by message; give also who was asked, and the state after it."""
    engine = Serial(TransformedRows(DATA.__getitem__, method.transform))
    state = initialise_state(method)
    asked = list(query_jobs(method, state, cohort, 0))
    told = list(engine.map(method.query.solve, asked)) if asked else []
    jobs = list(make_jobs(method, state, cohort, {one.worker: one.answer for one in told}, 0))
    replies = list(engine.map(method.solve, jobs))
    return asked, jobs, replies, state, commit_replies(method, state, replies)


@pytest.mark.parametrize(
    ("opens", "rounds", "closed"),
    [
        ((2, 4), [2, 2, 2], [(3, 4), (4,), ()]),
        ((3, 3), [3, 3], [(3, 4), ()]),
        ((), [6], [()]),
    ],
)
def test_a_run_has_a_stage_between_two_openings(opens, rounds, closed):
    found: Any = stages(opens)
    assert [stage.rounds for stage in found] == rounds
    assert [stage.method.model.closed for stage in found] == closed


@pytest.mark.parametrize(
    "choices",
    [
        {}, {"k": 5}, {"random": True}, {"capacity": 9}, {"explore": 0.9}, {"lend_idle": True},
        {"cover": 0.9, "k": 4, "shared": True}, {"loss": "logits_full"}, {"merge": "usage"},
    ],
)  # fmt: skip
def test_a_closed_expert_is_held_by_nobody_and_keeps_its_bits(choices):
    method: Any = stages(**choices)[0].method
    asked, jobs, replies, state, after = play(method)
    held = {job.worker: job.share.part.axes["expert"].tolist() for job in jobs}
    assert not {3, 4} & {expert for ids in held.values() for expert in ids}
    assert [job.share.role for job in jobs] == ["anchor", "anchor", "", "", "", ""]
    if not choices.get("random"):  # the anchor of a closed expert is a worker like others
        assert [job.worker for job in asked] == [2, 3, 4, 5]
    for name, old in state.params.items():
        if name.startswith("expert."):
            assert torch.equal(after.params[name][3:5], old[3:5]), name
    for reply in replies:  # no row of the gate learns of it, an anchor's least of all
        for name in ("gate.layer2.w", "gate.layer2.b"):
            assert torch.equal(reply.piece[name][3:5], state.params[name][3:5])
            assert reply.piece[name].isfinite().all()
    rows = TransformedRows(DATA.__getitem__, method.transform)(5)
    assert not {3, 4} & {*method.serve.choose(after.params, rows).axes["expert"].tolist()}


def test_a_mixture_with_closed_experts_scores_as_one_without_them():
    """The softmax is over those that are open; of the others scores are 0."""
    method: Any = stages()[0].method
    params = method.model.params
    batch = method.transform(DATA[3].take(torch.arange(9)))
    cut = {n: t[:3] if n.startswith("gate.layer2") else t for n, t in params.items()}
    wanted = replace(method.model, closed=()).log_gate(cut, batch)
    found = method.model.log_gate(params, batch)
    torch.testing.assert_close(found[:, :3], wanted)
    assert (found[:, 3:].exp() == 0).all()


def test_engines_agree_where_experts_are_closed():
    method: Any = stages(loss="logits_full")[0].method
    rows = TransformedRows(DATA.__getitem__, method.transform)
    state = initialise_state(method)
    one, other = (play_round(method, e(rows), state, range(6), 0) for e in (Serial, Vectorized))
    for name, tensor in one.params.items():
        torch.testing.assert_close(other.params[name], tensor, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("opens", "message"),
    [
        ((1, 2, 3, 4, 5), "closes 5 of 5 experts at the start; leave one open"),
        ((4, 2), "choose numbers from 1 to 5, none below"),
        ((0, 2), "choose numbers from 1 to 5, none below"),
        ((6,), "numbers from 1 to 5, none below the one before: the run has 6"),
    ],
)
def test_openings_that_are_none_are_refused(opens, message):
    with pytest.raises(ValueError, match=message):
        stages(opens)


def test_a_method_that_is_no_stage_does_not_close_experts_for_good():
    with pytest.raises(ValueError, match=r"opens=\(20,\) makes stages of a run"):
        ddome(TASK, opens=(20,))


def share_out(split: Gated, answers, cohort=None):
    turn = Turn(0, tuple(cohort or answers), answers, stream(0, "turn"))
    held = split(State({}), turn)
    return {worker: share.part.axes["expert"].tolist() for worker, share in held.items()}


def test_idle_experts_are_lent_to_workers_whose_last_choice_others_hold():
    ids = {worker: {"ids": torch.tensor([0, 1])} for worker in range(4)}
    lent = share_out(Gated("expert", 2, size=5, lend=True), ids)
    assert sorted(held[1] for held in lent.values()) == [1, 2, 3, 4]  # one keeps expert 1
    assert all(held[0] == 0 for held in lent.values())
    # An anchor holds expert 2 already, and of 5 none is open: 3 alone is idle.
    split = Gated("expert", 2, {9: 2}, size=6, closed=2, lend=True)
    lent = share_out(split, ids, [*ids, 9])
    assert sorted(lent.values()) == [[0, 1], [0, 1], [0, 1], [0, 3], [2]]
    # Who would give up an expert that is nobody else's keeps it.
    alone = {0: {"ids": torch.tensor([0])}, 1: {"ids": torch.tensor([1])}}
    assert share_out(Gated("expert", 1, size=4, lend=True), alone) == {0: [0], 1: [1]}
