"""What is asked, sent, drawn and kept."""

from dataclasses import replace

import torch

from moiety.core.axes import take_piece
from moiety.core.state import Job, Plan


def size_of(model, name: str, part) -> int:
    """Bytes of the slice of a parameter that a part holds, from shapes alone."""
    tensor = model.params[name]
    count = 1
    entries = model.axes.get(name, (None,) * tensor.ndim)
    for size, entry in zip(tensor.shape, entries, strict=True):
        count *= len(part.axes[entry]) if entry in part.axes else size
    return count * tensor.element_size()


def travelling(case, state, part) -> int:
    """Bytes of the slices of the optimiser's memory that travels; step counts lie on no axis."""
    return sum(
        size_of(case.method.model, name, part) if tensor.ndim else tensor.element_size()
        for tensors in state.optimizer_state.values()
        for name, tensor in tensors.items()
    )


def test_bytes_are_those_of_the_shapes(case):
    """Down: what is held, less what the query brought. Up: all that is held, answers, weights.

    Every engine's replies have the bytes of ``Serial``'s, which another law says.
    """
    engine, state, model = case.engine("serial"), case.begin(), case.method.model
    for cohort in case.cohorts(3):
        asked, told = case.asked(engine, state, cohort)
        probed = {}
        for job in asked:
            probed[job.worker] = set(job.piece)
            assert job.down_bytes == sum(size_of(model, n, job.share.part) for n in job.piece)
        for reply in told:
            assert reply.piece == {}
            assert reply.up_bytes == sum(
                t.numel() * t.element_size() for t in reply.answer.values()
            )
        jobs = case.jobs(engine, state, cohort)
        for job in jobs:
            held = {name for name in model.params if job.share.part.holds(name)}
            assert set(job.piece) == held
            fresh = held - probed.get(job.worker, set())
            kept = travelling(case, state, job.share.part)
            assert job.down_bytes == sum(size_of(model, n, job.share.part) for n in fresh) + kept
        for job, reply in zip(jobs, engine.map(case.method.solve, jobs), strict=True):
            assert set(reply.piece) == set(job.piece)
            piece = sum(size_of(model, n, job.share.part) for n in job.piece)
            answer = sum(t.numel() * t.element_size() for t in reply.answer.values())
            know = [*reply.precision.axes.values(), *reply.precision.diagonal.values()]
            weights = sum(t.numel() * t.element_size() for t in know)
            kept = travelling(case, state, job.share.part)
            assert reply.up_bytes == piece + answer + weights + kept
        state = case.play(engine, state, 1)


def test_choices_need_no_labels(case, near):
    """The probe and the serving choose the same when there are no labels to look at."""
    engine, state = case.engine("serial"), case.begin()
    state = case.play(engine, state, 2)
    bare = case.without_labels()
    wanted, found = case.jobs(engine, state), bare.jobs(bare.engine("serial"), state)
    for a, b in zip(found, wanted, strict=True):
        near(a.share.part.axes, b.share.part.axes)
    for worker in case.cohort:
        choose = case.method.serve.choose
        with_labels = choose(state.params, case.open()(worker))
        without = choose(state.params, bare.open()(worker))
        near(without.axes, with_labels.axes)
        scores = case.method.serve.scores(
            take_piece(state.params, case.method.model.axes, without),
            bare.open()(worker).take(torch.arange(3)),
            without.axes,
        )
        torch.testing.assert_close(scores.exp().sum(-1), torch.ones(scores.shape[:-1]))


def planned(case, job: Job) -> Plan:
    return case.method.solve.plan(case.data[job.worker].size, job)


def others(job: Job) -> list[Job]:
    """Move a job to another round, another worker, and another seed."""
    return [replace(job, round=1), replace(job, worker=77), replace(job, seed=4)]


def test_every_round_worker_and_seed_draws_afresh(case):
    job = case.jobs(case.engine("serial"), case.begin())[0]
    size, plan = case.data[job.worker].size, planned(case, job)
    assert torch.equal(plan.rows, planned(case, job).rows)
    assert torch.equal(plan.seeds, planned(case, job).seeds)
    for other in others(job):
        changed = case.method.solve.plan(size, other)
        assert not set(changed.seeds.tolist()) & set(plan.seeds.tolist())


def test_every_round_worker_and_seed_shuffles_afresh(case):
    job = case.jobs(case.engine("serial"), case.begin())[0]
    size, plan = case.data[job.worker].size, planned(case, job)
    for other in others(job):
        assert not torch.equal(case.method.solve.plan(size, other).rows, plan.rows)


def test_a_worker_keeps_only_what_it_never_sends(case):
    """Where its solver says that it keeps anything; of what is trained, and no copy of a piece.

    Every engine's memory is that of ``Serial``, which another law says.
    """
    engine = case.engine("serial")
    state = case.play(engine, case.begin(), 2)
    jobs = case.jobs(engine, state)
    replies = list(engine.map(case.method.solve, jobs))
    for reply in replies:
        for section, tensors in engine.memory.get(reply.worker, {}).items():
            assert set(tensors) <= set(case.method.model.params)
            for name, tensor in tensors.items():
                sent = reply.piece.get(name)
                assert sent is None or not torch.equal(tensor, sent), f"{section}/{name}"
    expected = set(case.cohort) if case.method.solve.keeps_memory else set()
    assert set(engine.memory) == expected
