"""What workers say of how well they know their pieces: Fisher diagonals, and use."""

from dataclasses import replace

import pytest
import torch

from moiety.core.rows import TableRows, TransformedRows, take_all_rows
from moiety.core.streams import stream
from moiety.engine.serial import Serial
from moiety.methods.ddome import ddome
from moiety.methods.demo import make_two_class_workers
from moiety.methods.fisher import fisher
from moiety.methods.task import LocalTraining, Task
from moiety.models.mlp import linear
from moiety.rounds.commit import commit_replies
from moiety.rounds.synchronous import initialise_state, make_jobs, query_jobs

FLOOR = 1e-4


def answer(method, engine, cohort):
    """Give the first state, the jobs of the first round and the replies to them."""
    state = initialise_state(method)
    asked = query_jobs(method, state, cohort, 0)
    query = method.query
    answers = {r.worker: r.answer for r in engine.map(query.solve, asked)} if query else {}
    jobs = list(make_jobs(method, state, cohort, answers, 0))
    return state, jobs, list(engine.map(method.solve, jobs))


def test_a_fisher_diagonal_by_hand():
    """Two classes: the gradient of a logit's row is (p - 1{y}) x, whose square is the mean's."""
    x = torch.tensor([[1.0, 2.0], [0.0, -1.0], [3.0, 0.5]])
    y = torch.tensor([0, 1, 1])
    engine = Serial({0: TableRows({"x": x, "y": y}, torch.arange(3))}.__getitem__)
    method = fisher(Task(linear(2, 2, stream(0, "net")), LocalTraining(lr=0.1, momentum=0.0)))
    _, _, (reply,) = answer(method, engine, [0])
    (weight, bias) = reply.piece
    p = (x @ reply.piece[weight].T + reply.piece[bias]).softmax(1)
    error = p - torch.nn.functional.one_hot(y, 2)
    diagonal = reply.precision.diagonal
    wanted = (error[:, :, None] * x[:, None, :]).square().mean(0) + FLOOR
    torch.testing.assert_close(diagonal[weight], wanted, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(diagonal[bias], error.square().mean(0) + FLOOR)
    assert reply.up_bytes == 2 * 4 * (2 * 2 + 2)


def test_the_surer_worker_counts_more():
    task, data = make_two_class_workers(stream(0, "demo"))
    method = fisher(task)
    state, _, replies = answer(method, Serial(data.__getitem__), [0, 1])
    after = commit_replies(method, state, replies)
    for name in state.params:
        a, b = (reply.precision.diagonal[name].double() for reply in replies)
        u, v = (reply.piece[name].double() for reply in replies)
        wanted = (a * u + b * v) / (a + b)
        torch.testing.assert_close(after.params[name].double(), wanted, rtol=1e-4, atol=1e-6)


def test_use_is_the_gates_share_of_the_experts_at_hand():
    task, data = make_two_class_workers(stream(0, "demo"))
    method = ddome(task, experts=4, k=2, merge="usage")
    engine = Serial(TransformedRows(data.__getitem__, method.transform))
    state, jobs, replies = answer(method, engine, [0, 3, 4, 5])
    for job, reply in zip(jobs, replies, strict=True):
        (used,) = reply.precision.axes.values()
        held = job.share.part.axes["expert"]
        batch = take_all_rows(engine.open(job.worker))
        score = method.model.log_gate(reply.piece, batch).exp()[:, held]
        torch.testing.assert_close(used, (score / score.sum(1, keepdim=True)).mean(0))
        torch.testing.assert_close(used.sum(), torch.tensor(1.0))
    after = commit_replies(method, state, replies)
    for name, old in state.params.items():
        if not name.startswith("expert."):
            continue
        for expert in range(4):
            held = [
                (float(r.precision.axes["expert"][place]), r.piece[name][place])
                for r in replies
                for place in (r.share.part.axes["expert"] == expert).nonzero()[:, 0].tolist()
            ]
            wanted = sum(w * t for w, t in held) / sum(w for w, _ in held) if held else old[expert]
            torch.testing.assert_close(after.params[name][expert], wanted, rtol=1e-4, atol=1e-6)


def test_training_is_the_same_however_it_is_weighed():
    """A look at the rows afterwards changes no piece, to the bit."""
    task, data = make_two_class_workers(stream(0, "demo"))
    one, two = ddome(task, experts=3), ddome(task, experts=3, merge="usage")
    engine = Serial(TransformedRows(data.__getitem__, one.transform))
    _, _, plain = answer(one, engine, [0, 3, 5])
    _, _, used = answer(two, engine, [0, 3, 5])
    for a, b in zip(plain, used, strict=True):
        assert all(torch.equal(tensor, b.piece[name]) for name, tensor in a.piece.items())


def test_what_fits_neither_is_refused():
    task, _ = make_two_class_workers(stream(0, "demo"))
    with pytest.raises(ValueError, match=r"ddome\.merge='mean'"):
        ddome(task, merge="mean")
    with pytest.raises(ValueError, match="floor=0"):
        fisher(task, floor=0.0)
    with pytest.raises(ValueError, match="flips"):
        fisher(replace(task, local=replace(task.local, flips=True)))
