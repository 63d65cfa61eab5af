"""Cutting, putting back and folding."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from moiety.core.axes import Part, add_piece, take_piece
from moiety.core.fold import Precision
from moiety.core.protocols import adopt_merged
from moiety.core.rows import TableRows
from moiety.core.state import Reply
from moiety.core.streams import stream
from moiety.engine.serial import Serial
from moiety.methods.fedavg import fedavg
from moiety.methods.task import LocalTraining, Task
from moiety.models.mlp import mlp
from moiety.rounds.commit import commit_replies
from moiety.rounds.synchronous import initialise_state, play_round


def parts(case, rounds: int = 3) -> list[Part]:
    """Collect the parts that the split really gives, and the probe's."""
    engine, state, found = case.engine("serial"), case.begin(), []
    if case.method.query is not None:
        found.append(case.method.query.part)
    for cohort in case.cohorts(rounds):
        found += [job.share.part for job in case.jobs(engine, state, cohort)]
        state = case.play(engine, state, 1)
    return found


def doubles(params, rng: torch.Generator) -> dict[str, torch.Tensor]:
    """Draw double-precision values of the shapes of some parameters."""
    return {n: torch.randn(t.shape, generator=rng, dtype=torch.double) for n, t in params.items()}


def inner(a, b) -> float:
    return float(sum((a[name] * b[name]).sum() for name in a))


def test_take_and_add_at_are_adjoint(case):
    rng, axes = stream(0, "adjoint"), case.method.model.axes
    for part in parts(case):
        p, z = (doubles(case.method.model.params, rng) for _ in range(2))
        q = doubles(take_piece(p, axes, part), rng)
        total = {name: tensor.clone() for name, tensor in z.items()}
        add_piece(total, axes, part, q)
        wanted = inner(take_piece(p, axes, part), q) + inner(p, z)
        assert abs(inner(p, total) - wanted) <= 1e-9 * (1 + abs(wanted))


def test_parts_are_sorted_and_inside(case):
    """Sorted, without repeats, int64, within the axis; every worker of the roster has one."""
    sizes = {
        entry: size
        for name, entries in case.method.model.axes.items()
        for size, entry in zip(case.method.model.params[name].shape, entries, strict=True)
        if isinstance(entry, str)
    }
    engine, state = case.engine("serial"), case.begin()
    for cohort in case.cohorts(6):
        jobs = case.jobs(engine, state, cohort)
        assert [job.worker for job in jobs] == list(cohort)
        for job in jobs:
            for axis, kept in job.share.part.axes.items():
                assert kept.dtype == torch.int64
                assert len(kept) >= 1
                assert (kept.diff() > 0).all(), f"{axis}: {kept.tolist()}"
                assert int(kept[0]) >= 0
                assert int(kept[-1]) < sizes[axis]
        state = case.play(engine, state, 1)


def weighed(case, reply: Reply, rng: torch.Generator) -> Reply:
    """Give a reply a random precision: a scalar, and one number per kept index."""
    axes = {
        axis: torch.rand(len(kept), generator=rng) + 0.1
        for axis, kept in reply.share.part.axes.items()
    }
    know = Precision(float(torch.rand((), generator=rng)) * 5 + 0.1, axes)
    return replace(reply, precision=know)


def echo(case, job) -> Reply:
    """Send back what was sent."""
    rows = case.data[job.worker].size
    reply = Reply(job.worker, job.share, job.piece)
    return replace(reply, record=replace(reply.record, rows=rows))


def test_an_untouched_merge_changes_nothing(case, near):
    """Whatever the precisions."""
    rng, state = stream(0, "untouched"), case.begin()
    echoes = [echo(case, job) for job in case.jobs(case.engine("serial"), state)]
    for replies in (echoes, [weighed(case, reply, rng) for reply in echoes], echoes[:1]):
        after = commit_replies(case.method, state, replies)
        near(after.params, state.params, 1e-6)
        assert after.round == state.round + 1


def obvious_weight(know: Precision, name: str, tensor, entries, part: Part) -> np.ndarray:
    """Say how well a reply knows each entry of a tensor: the factors it gives, one by one."""
    weight = np.full(tensor.shape, know.scalar)
    if name in know.diagonal:
        weight = weight * know.diagonal[name].double().numpy()
    for place in np.ndindex(*tensor.shape):
        for dim, axis in enumerate(entries):
            if axis in know.axes:
                assert len(know.axes[axis]) == len(part.axes[axis]) == tensor.shape[dim]
                weight[place] *= float(know.axes[axis][place[dim]])
    return weight.flatten()


def obvious(case, state, replies) -> dict[str, np.ndarray]:
    """Fold coordinate by coordinate: the weighed mean over those who held it, else the old value.

    How well a reply is known is asked of the merge.
    """
    model, merged = case.method.model, {}
    for name, old in state.params.items():
        flat = old.double().flatten().numpy()
        total, mass = np.zeros_like(flat), np.zeros_like(flat)
        ids = torch.arange(old.numel()).reshape(old.shape)
        for reply in replies:
            if name in reply.piece:
                where = (
                    take_piece({name: ids}, model.axes, reply.share.part)[name].flatten().numpy()
                )
                weight = obvious_weight(
                    case.method.merge.weigh(reply),
                    name,
                    reply.piece[name],
                    model.axes.get(name, ()),
                    reply.share.part,
                )
                np.add.at(total, where, weight * reply.piece[name].double().flatten().numpy())
                np.add.at(mass, where, weight)
        mean = np.where(mass > 0, total / np.where(mass > 0, mass, 1), flat)
        merged[name] = (mean if old.is_floating_point() else mean.round()).reshape(old.shape)
    return merged


SOME = ([0], [5], [1, 4], [0, 2, 3], [5, 4, 3, 2, 1], list(range(6)))


def answered(case):
    """Give the state after a round, and the replies of the next one."""
    engine = case.engine("serial")
    state = case.play(engine, case.begin(), 1)
    return state, list(engine.map(case.method.solve, case.jobs(engine, state)))


def test_any_replies_will_do(case):
    """For one, some and all replies: finite values of the same kind; what nobody sent stays."""
    state, replies = answered(case)
    for some in SOME:
        here = [replies[place] for place in some]
        held = {name for reply in here for name in reply.piece}
        moved = commit_replies(case.method, state, here)
        for name in state.params:
            assert moved.params[name].dtype == state.params[name].dtype
            assert moved.params[name].shape == state.params[name].shape
            assert moved.params[name].isfinite().all()
            if name not in held:
                assert torch.equal(moved.params[name], state.params[name])


def test_one_reply_is_the_result(case, near):
    """What one worker alone sent is what it becomes, where no server's optimiser intervenes."""
    state, replies = answered(case)
    plain = replace(case.method, server=adopt_merged)
    for reply in replies:
        after = commit_replies(plain, state, [reply])
        piece = take_piece(after.params, case.method.model.axes, reply.share.part)
        kept = {n: t for n, t in reply.piece.items() if case.method.model.buffers.get(n) != "keep"}
        near({name: piece[name] for name in kept}, kept, 1e-6)


def test_the_merge_is_the_obvious_fold(case):
    """For one, some and all replies: the means of the holders; nobody's coordinates stay."""
    state, replies = answered(case)
    plain = replace(case.method, server=adopt_merged)
    for some in SOME:
        here = [replies[place] for place in some]
        after = commit_replies(plain, state, here)
        for name, wanted in obvious(case, state, here).items():
            found = after.params[name]
            assert found.dtype == state.params[name].dtype
            np.testing.assert_allclose(found.double().numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_what_nobody_held_stays_to_the_bit(case):
    """Also under the server's optimiser, and its memory of them stays too."""
    engine, state = case.engine("serial"), case.begin()
    state = case.play(engine, state, 1)
    reply = next(iter(engine.map(case.method.solve, case.jobs(engine, state, [5]))))
    after = commit_replies(case.method, state, [reply])
    for name, old in state.params.items():
        mask = torch.ones_like(old, dtype=torch.bool)
        if name in reply.piece:
            ids = torch.arange(old.numel()).reshape(old.shape)
            held = take_piece({name: ids}, case.method.model.axes, reply.share.part)[name]
            mask.view(-1)[held.flatten()] = False
        assert torch.equal(after.params[name][mask], old[mask])
        for section, memory in state.server.items():
            if name in memory:
                assert torch.equal(after.server[section][name][mask], memory[name][mask])


def test_reply_order_is_irrelevant(case, near):
    rng = stream(0, "order")
    engine, state = case.engine("serial"), case.begin()
    state = case.play(engine, state, 1)
    replies = list(engine.map(case.method.solve, case.jobs(engine, state)))
    replies = [weighed(case, reply, rng) for reply in replies]
    first = commit_replies(case.method, state, replies)
    for _ in range(3):
        order = torch.randperm(len(replies), generator=rng).tolist()
        shuffled = commit_replies(case.method, state, [replies[place] for place in order])
        near(shuffled.params, first.params, 1e-6)
        near(shuffled.server, first.server, 1e-6)


@pytest.mark.parametrize("by_rows", [True, False])
def test_travelling_memory_is_weighed_as_its_piece_is(by_rows):
    """After one step each, momentum is the change over the rate, whoever had how many rows."""
    x, y = torch.randn(100, 8, generator=stream(0, "x")), torch.arange(100) % 3
    hands = {0: torch.arange(10), 1: torch.arange(10, 100)}
    rows = {worker: TableRows({"x": x, "y": y}, hand) for worker, hand in hands.items()}
    local = LocalTraining(lr=0.1, momentum=0.9, batch=100, optimizer_state="send", by_rows=by_rows)
    method = fedavg(Task(mlp((8, 4, 3), stream(0, "net")), local, workers=2))
    start = initialise_state(method)
    after = play_round(method, Serial(rows.__getitem__), start, [0, 1], 0)
    for name, velocity in after.optimizer_state["velocity"].items():
        way = (start.params[name] - after.params[name]) / 0.1
        torch.testing.assert_close(velocity, way, rtol=1e-4, atol=1e-5)
