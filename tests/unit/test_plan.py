"""All randomness of a job, drawn at once."""

import math
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moiety.core.state import Job, Share
from moiety.ops.optim import SGD
from moiety.solve.lr_schedule import CosineRate, SteppedRate, constant_rate
from moiety.solve.plan import shuffle_rows
from moiety.solve.sgd import LocalSGD


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 3))
def test_every_row_once_an_epoch(size, batch, epochs):
    rows, weights = shuffle_rows(size, batch, epochs, torch.Generator().manual_seed(0))
    per_epoch = -(-size // min(batch, size))
    assert rows.shape == weights.shape == (per_epoch * epochs, min(batch, size))
    for epoch in range(epochs):
        mine = slice(epoch * per_epoch, (epoch + 1) * per_epoch)
        seen = Counter(rows[mine][weights[mine] > 0].tolist())
        assert seen == Counter(range(size))
    torch.testing.assert_close(weights.sum(1), torch.ones(len(weights)))


def test_a_short_batch_ends_with_rows_of_no_weight():
    _, weights = shuffle_rows(7, 3, 2, torch.Generator().manual_seed(0))
    third = torch.tensor(1 / 3)
    for epoch in (weights[:3], weights[3:]):
        assert torch.equal(epoch[:2], third.expand(2, 3))
        assert epoch[2].tolist() == [1.0, 0.0, 0.0]


def test_epochs_are_shuffled_apart():
    rows, _ = shuffle_rows(30, 30, 2, torch.Generator().manual_seed(0))
    assert not torch.equal(rows[0], rows[1])


def solver(**choices) -> LocalSGD:
    losses: Any = {"": lambda *_: None}
    return LocalSGD(losses, (("*", SGD(0.1)),), **choices)


def test_steps_cap_and_rates_progress():
    """Five steps at batch 2 of 10 rows, capped to 4: progress 3, 3.25, 3.5, 3.75."""
    job = Job(0, 3, 1, Share(), {})
    plan = solver(batch=2, steps=4, lr_schedule=lambda progress: progress).plan(10, job)
    assert plan.steps == 4
    assert plan.lr.tolist() == [3.0, 3.25, 3.5, 3.75]
    noisy = solver(batch=2, steps=4, draws_noise=True).plan(10, job)
    assert len(set(noisy.seeds.tolist())) == 4
    assert not len(plan.seeds)
    assert solver(batch=2, steps=99).plan(10, job).steps == 5


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="no rows; leave it out"):
        solver().plan(0, Job(0, 0, 1, Share(), {}))


@pytest.mark.parametrize("name", ["batch", "epochs", "accumulate"])
def test_counts_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}=0"):
        solver(**{name: 0})


@pytest.mark.parametrize(("name", "value"), [
    ("clip", 0.0), ("clip", -1.0), ("clip", math.nan), ("window", -1), ("optimizer_state", "foo"),
])  # fmt: skip
def test_choices_of_a_solver_that_cannot_be_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        solver(**{name: value})


@pytest.mark.parametrize(("name", "value"), [
    ("warmup", math.nan), ("warmup", -1.0), ("floor", math.nan), ("floor", 1.5),
])  # fmt: skip
def test_a_cosine_that_cannot_be_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        CosineRate(10, **{name: value})


def test_schedules_by_hand():
    assert constant_rate(7.0) == 1.0
    course = CosineRate(rounds=10, warmup=2.0, floor=0.1)
    assert course(1.0) == pytest.approx(0.5)
    assert course(2.0) == pytest.approx(1.0)
    assert course(6.0) == pytest.approx(0.1 + 0.9 * 0.5)
    assert course(10.0) == pytest.approx(0.1)
    assert course(50.0) == pytest.approx(0.1)
    steps = SteppedRate(at=(5, 10), factor=0.5)
    assert [steps(p) for p in (4.9, 5.0, 10.0)] == [1.0, 0.5, 0.25]
