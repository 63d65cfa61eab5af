"""Masked one-hidden-layer nets (M1 to M3), and the directions of other bounds."""

from itertools import pairwise

import pytest
import torch

from benchmarks.ist_parts.directions import iterates, residual
from benchmarks.ist_parts.masked import Setting, first, floor, local, masks, merged, problem
from moiety.split.assigned import Bernoulli, CategoricalAssignment


def rising(values) -> bool:
    return all(a < b for a, b in pairwise(values))


def test_a_step_of_a_part_is_the_gradient_by_autograd():
    """Only of units in the part; the merge adds the mean change over holders."""
    setting = Setting(Bernoulli(0.5), 3, width=10)
    (x, y), (w, a), mask = problem(0), first(setting, 0), masks(setting, 0, 0)
    sign = a / 10**0.5
    moved = local(w.expand(3, -1, -1), sign * mask, x, y, 0.1)
    total = torch.zeros_like(w)
    for part in range(3):
        leaf = w.clone().requires_grad_()
        out = (x @ leaf.T).relu() @ (sign * mask[part])
        (grad,) = torch.autograd.grad((out - y).square().sum() / 2, leaf)
        torch.testing.assert_close(moved[part], w - 0.1 * grad)
        total -= 0.1 * grad
    wanted = w + total / mask.sum(0).clamp_min(1)[:, None]
    torch.testing.assert_close(merged(w, moved, mask), wanted)


def test_m3_one_part_has_no_floor():
    assert floor(Setting(CategoricalAssignment(), 1)) < 1e-6


def test_m3_the_floor_rises_with_parts_and_falls_with_width():
    assert rising([floor(Setting(CategoricalAssignment(), p, total=800)) for p in (1, 2, 4, 8)])
    assert rising(
        [floor(Setting(CategoricalAssignment(), 4, width=m, total=800)) for m in (400, 200, 100)]
    )


def test_m1_bernoulli_masks_gain_from_more_parts():
    assert rising([floor(Setting(Bernoulli(0.5), p, total=800)) for p in (8, 4, 2, 1)])
    assert floor(Setting(Bernoulli(1.0), 2)) < 1e-6


@pytest.mark.parametrize(
    "cases",
    [
        ((1.0, 0.0, 1.0), (0.98, 0.0, 1.0), (0.9, 0.0, 1.0)),
        ((1.0, 0.0, 1.0), (1.0, 0.1, 1.0), (1.0, 1.0, 1.0)),
        ((0.9, 0.0, 0.0), (0.9, 0.0, 1.0), (0.9, 0.0, 2.0)),
    ],
    ids=["omega", "noise", "far"],
)
def test_the_neighbourhood_of_masked_iterates(cases):
    """It vanishes without masks and noise, and with a solution at zero; it grows with each."""
    found = [iterates(*case) for case in cases]
    assert found[0] < 1e-9
    assert rising(found)


def test_wide_residual_nets_fall_linearly_to_a_floor_that_falls_with_width():
    narrow, wide = residual(256, rounds=60), residual(1024, rounds=60)
    assert min(wide[-20:]) < min(narrow[-20:]) / 3
    assert all(a > 1.5 * b for a, b in pairwise(wide[:20:4]))
