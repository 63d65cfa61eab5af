"""What crosses between the processes of a pool."""

from multiprocessing import Pipe

import pytest
import torch

from moiety.engine.channel import LARGE, Channel

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
