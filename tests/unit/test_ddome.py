"""What DDOME must keep: specification, sections 3 and 9.1."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from moiety.core.rows import TransformedRows
from moiety.core.state import Turn, count_bytes
from moiety.core.streams import stream
from moiety.engine.serial import Serial
from moiety.methods.ddome import ddome
from moiety.methods.demo import make_two_class_workers
from moiety.rounds.commit import commit_replies
from moiety.rounds.synchronous import initialise_state, make_jobs, play_round, query_jobs

FREE = [3, 4, 5]
ANCHORS = {0: 0, 1: 1, 2: 2}


def made(anchors=ANCHORS, **choices):
    """Make the method with 5 experts on the demo problem, an engine and the first state."""
    task, data = make_two_class_workers(stream(0, "demo"))
    method: Any = ddome(replace(task, anchors=anchors), **{"experts": 5, **choices})
    return (
        method,
        Serial(TransformedRows(data.__getitem__, method.transform)),
        initialise_state(method),
    )


def exchange(method, engine, state, cohort):
    """Play a round message by message."""
    asked = list(query_jobs(method, state, cohort, 0))
    told = list(engine.map(method.query.solve, asked)) if method.query else []
    answers = {reply.worker: reply.answer for reply in told}
    jobs = list(make_jobs(method, state, cohort, answers, 0))
    return asked, told, jobs, list(engine.map(method.solve, jobs))


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("cohort", [[0, 3, 1, 4], [3, 4, 5], [0, 1, 2]])
def test_bytes_are_the_papers_formula(k, cohort):
    """N_c (2 P_r + 2 K P_e + K eps) + N_a (2 P_r + 2 P_e), section 3.5; an index has 4 bytes."""
    method, engine, state = made(k=k)
    asked, told, jobs, replies = exchange(method, engine, state, cohort)
    gate = 4 * (64 * 6 + 64 + 5 * 64 + 5)
    expert = 4 * (6 * 8 + 6 + 6 * 6 + 6)
    normals = sum(worker not in ANCHORS for worker in cohort)
    bound = len(cohort) - normals
    down = sum(job.down_bytes for job in (*asked, *jobs))
    up = sum(reply.up_bytes for reply in (*told, *replies))
    assert down == normals * (gate + k * expert) + bound * (gate + expert)
    assert up == normals * (gate + k * expert + 4 * k) + bound * (gate + expert)


def test_bytes_do_not_depend_on_the_number_of_experts():
    """But for the gate's last layer, one row an expert."""
    sums = []
    for experts in (5, 9):
        method, engine, state = made(experts=experts)
        asked, _, jobs, _ = exchange(method, engine, state, FREE)
        gate = count_bytes({n: t for n, t in state.params.items() if n.startswith("gate.")})
        sums.append(sum(job.down_bytes for job in (*asked, *jobs)) - 3 * gate)
    assert sums[0] == sums[1]


def test_anchors_are_never_asked_and_hold_their_expert():
    method, engine, state = made()
    asked, _, jobs, _ = exchange(method, engine, state, [2, 3, 0, 5])
    assert [job.worker for job in asked] == [3, 5]
    assert all(
        set(job.piece) == {n for n in state.params if n.startswith("gate.")} for job in asked
    )
    parts = {job.worker: job.share for job in jobs}
    assert parts[2].part.axes["expert"].tolist() == [2]
    assert parts[0].part.axes["expert"].tolist() == [0]
    assert [parts[w].role for w in (2, 0, 3, 5)] == ["anchor", "anchor", "", ""]


def test_hints_are_the_ids_with_the_highest_summed_scores():
    method, engine, state = made()
    _, told, _, _ = exchange(method, engine, state, FREE)
    for reply in told:
        rows = engine.open(reply.worker)
        batch = rows.take(torch.arange(rows.size))
        total = method.model.log_gate(state.params, batch).exp().sum(0)
        wanted = total.argsort(descending=True)[:2].tolist()
        assert reply.answer["ids"].tolist() == wanted
        assert reply.answer["ids"].dtype == torch.int32


@pytest.mark.parametrize("cohort", [FREE, [0], [0, 4]])
def test_untouched_experts_are_bit_identical(cohort):
    method, engine, state = made()
    _, _, jobs, replies = exchange(method, engine, state, cohort)
    held = {e for job in jobs for e in job.share.part.axes["expert"].tolist()}
    assert len(held) < 5
    after = commit_replies(method, state, replies)
    for name, old in state.params.items():
        if name.startswith("expert."):
            for expert in range(5):
                same = torch.equal(after.params[name][expert], old[expert])
                assert same == (expert not in held), (name, expert)


def test_the_common_expert_never_changes():
    method, engine, state = made()
    before = {name: t.clone() for name, t in method.constants.items()}
    assert not set(method.constants) & set(state.params)
    for _ in range(3):
        state = play_round(method, engine, state, range(6), 0)
    for name, old in before.items():
        assert torch.equal(method.model.common.constants()[name], old)


def test_no_anchors_is_a_method_too():
    """Everyone is asked, and it still trains."""
    method, engine, state = made(anchors={})
    asked, _, jobs, replies = exchange(method, engine, state, [0, 1, 5])
    assert [job.worker for job in asked] == [0, 1, 5]
    assert all(job.share.role == "" for job in jobs)
    after = commit_replies(method, state, replies)
    assert not torch.equal(after.params["gate.layer2.w"], state.params["gate.layer2.w"])


def test_all_experts_for_everyone():
    """M = K selects all."""
    method, engine, state = made(k=5)
    _, _, jobs, _ = exchange(method, engine, state, FREE)
    assert all(job.share.part.axes["expert"].tolist() == [0, 1, 2, 3, 4] for job in jobs)


def test_one_expert_without_anchors_leaves_the_gate():
    """K = 1 under a renormalised loss: nobody moves the gate, to the bit."""
    method, engine, state = made(anchors={}, k=1)
    for reply in exchange(method, engine, state, FREE)[-1]:
        for name, tensor in reply.piece.items():
            assert torch.equal(tensor, state.params[name]) or name.startswith("expert.")


def test_anchors_that_do_not_teach_leave_the_gate():
    for teach in (True, False):
        method, engine, state = made(teach=teach)
        for reply in exchange(method, engine, state, [0, 1, 2])[-1]:
            same = torch.equal(reply.piece["gate.layer2.w"], state.params["gate.layer2.w"])
            assert same == (not teach)


def test_a_server_that_chooses_keeps_the_capacity():
    method, engine, state = made(anchors={}, capacity=2, k=1)
    _, told, jobs, _ = exchange(method, engine, state, range(6))
    assert all(reply.answer["score"].shape == (5,) for reply in told)
    chosen = [job.share.part.axes["expert"].item() for job in jobs]
    assert max(chosen.count(expert) for expert in range(5)) <= 2


def test_the_random_control_asks_nobody_and_pays_the_gate_in_the_job():
    method, engine, state = made(random=True)
    asked, _, jobs, _ = exchange(method, engine, state, FREE)
    assert asked == []
    assert all(job.down_bytes == count_bytes(job.piece) for job in jobs)
    assert all(len(job.share.part.axes["expert"]) == 2 for job in jobs)


def test_experts_start_apart_or_from_the_common_expert():
    apart = made()[2].params["expert.layer1.w"]
    method, _, state = made(from_common=True)
    together = state.params["expert.layer1.w"]
    assert not torch.equal(apart[0], apart[1])
    for expert in together:
        assert torch.equal(expert, method.model.common.params["layer1.w"])


def test_impossible_choices_are_refused():
    task, _ = make_two_class_workers(stream(0, "demo"))
    with pytest.raises(ValueError, match="k=6 experts per worker, but the model has 5"):
        ddome(task, k=6)
    with pytest.raises(ValueError, match=r"anchors \{2: 2\} name experts .*; raise ddome.experts"):
        ddome(task, experts=2)
    with pytest.raises(ValueError, match="needs a common expert"):
        ddome(replace(task, common=None))


def test_a_worker_holds_the_fewest_experts_that_cover_its_scores():
    """As many as a loop over the scores finds, in training and in use; one and k are the ends."""
    for cover, shared in ((0.3, False), (0.55, True), (0.9999, False)):
        method, engine, state = made(k=4, cover=cover, shared=shared)
        _, told, jobs, _ = exchange(method, engine, state, FREE)
        for reply, job in zip(told, jobs, strict=True):
            rows = engine.open(reply.worker)
            batch = rows.take(torch.arange(rows.size))
            score_E = method.model.log_gate(state.params, batch).exp().mean(0)[:5]
            order, count = score_E.argsort(descending=True), 1
            while count < 4 and score_E[order[:count]].sum() < cover * score_E.sum():
                count += 1
            wanted = sorted(order[:count].tolist()) + [5] * shared
            assert job.share.part.axes["expert"].tolist() == wanted
            assert method.serve.choose(state.params, rows).axes["expert"].tolist() == wanted
            assert reply.answer["ids"].shape == (4,)  # answers of all workers have one form


def test_some_workers_explore_and_others_keep_their_choice():
    """About half of them, experts of any number; without a chance the draws are none."""
    method, _, state = made(explore=0.5)
    answers = {worker: {"ids": torch.tensor([4, 1])} for worker in range(3, 203)}
    turn = Turn(0, tuple(answers), answers, stream(0, "turn"))
    held = [share.part.axes["expert"].tolist() for share in method.split(state, turn).values()]
    kept = held.count([1, 4])
    assert 80 < kept < 145  # 100 and a tenth of the others, within four deviations
    assert {expert for one in held for expert in one} == set(range(5))


def test_experts_in_use_may_be_more_than_in_training():
    method, engine, state = made(serve_k=5)
    _, _, jobs, _ = exchange(method, engine, state, FREE)
    assert {len(job.share.part.axes["expert"]) for job in jobs} == {2}
    assert len(method.serve.choose(state.params, engine.open(3)).axes["expert"]) == 5


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"cover": 0.0}, "cover=0.0 is a share"),
        ({"explore": 1.0}, "explore=1.0 is a chance"),
        ({"serve_k": 6}, "serve_k=6, but the model has 5 experts"),
        ({"gate_hidden": 0}, "gate_hidden=0 units of the gate; choose at least 1"),
        ({"capacity": -1}, "capacity=-1 workers an expert; choose at least 1"),
        ({"teach": False, "anchors": {}}, "is about anchors, of which there are none; leave"),
        ({"cover": 0.5, "capacity": 9}, "they do not; leave them out"),
        ({"explore": 0.5, "random": True}, "they do not; leave them out"),
    ],
)
def test_ways_to_choose_that_nothing_reads_are_refused(choices, message):
    with pytest.raises(ValueError, match=message):
        made(**choices)
