"""What crosses between the processes of a pool."""

import threading
from multiprocessing import Pipe

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moiety.engine.channel import LARGE, Channel
from tests.waiting import LAST_S

BIG = LARGE // 4 + 1


@pytest.fixture
def ends():
    near, far = Pipe()
    yield Channel(near), Channel(far)
    near.close()
    far.close()


def cross(ends, value):
    ends[0].send(value)
    return ends[1].recv()


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6.0).reshape(2, 3),
        torch.arange(2.0 * BIG).reshape(2, BIG).T,
        torch.ones(BIG, 2, dtype=torch.bfloat16),
        torch.tensor(7),
        torch.zeros(0, 3),
    ],
)
def test_values_dtypes_and_shapes_arrive(ends, tensor):
    found = cross(ends, {"a": (1, tensor)})["a"][1]
    assert found.dtype == tensor.dtype
    assert torch.equal(found, tensor)


DTYPES = (torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool,
          torch.complex64)  # fmt: skip


@st.composite
def strided(draw):
    """Draw a tensor of any shape and stride: cut, turned, expanded, conjugated, or without rows."""
    shape = draw(st.lists(st.integers(0, 5), max_size=4))
    whole = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if draw(st.booleans()) and shape:
        whole = whole.repeat(draw(st.sampled_from([1, LARGE // 2])), *[1] * (len(shape) - 1))
    whole = (whole * 9).to(draw(st.sampled_from(DTYPES)))
    for dim, length in enumerate(whole.shape):
        first = draw(st.integers(0, length))
        step = draw(st.integers(1, 3))
        end = draw(st.sampled_from([length, min(length, first + 1)]))
        whole = whole.narrow(dim, first, max(0, end - first))[
            (slice(None),) * dim + (slice(None, None, step),)
        ]
    whole = whole.permute(draw(st.permutations(range(whole.ndim))))
    if draw(st.booleans()):
        whole = whole.expand(draw(st.integers(1, 3)), *whole.shape)
    return whole.conj() if whole.is_complex() and draw(st.booleans()) else whole


@settings(max_examples=200, deadline=None)
@given(strided())
def test_any_shape_stride_and_dtype_arrives(tensor):
    near, far = Pipe()
    with near, far:
        big = tensor.numel() * tensor.element_size() >= LARGE
        sender, found = Channel(near), []
        thread = threading.Thread(target=lambda: found.append(Channel(far).recv()))
        thread.start()  # a pipe holds less than some of these
        sender.send([tensor])
        thread.join(LAST_S)
    assert (len(sender.sent) == 1) == big
    assert found[0][0].dtype == tensor.dtype
    assert found[0][0].shape == tensor.shape
    assert torch.equal(found[0][0], tensor)


def test_a_large_tensor_is_not_sent_twice_in_a_row(ends):
    big = torch.rand(BIG)
    first, second = cross(ends, [big, "x"])[0], cross(ends, [big, "y"])[0]
    assert second is first
    cross(ends, "nothing")
    again = cross(ends, [big])[0]
    assert again is not first
    assert torch.equal(again, big)


def test_a_tensor_changed_in_place_is_sent_again(ends):
    big = torch.zeros(BIG)
    cross(ends, big)
    big.add_(1)
    assert cross(ends, big).sum() == BIG


def test_one_tensor_under_two_names_stays_one(ends):
    big = torch.rand(BIG)
    found = cross(ends, {"a": big, "b": big})
    assert found["a"] is found["b"]


def test_a_new_tensor_never_passes_for_an_old_one(ends):
    for value in range(20):
        assert cross(ends, torch.full((BIG,), float(value)))[0] == value
