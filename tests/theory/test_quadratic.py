"""Claims Q1 to Q4 and Q6 on quadratics, by the project's own split, solver and merge."""

from itertools import permutations

import pytest
import torch

from benchmarks.ist_parts.quadratic import (
    UNIT,
    World,
    all_hands,
    decay,
    expected,
    given,
    m_bar,
    run,
    same,
    step_matrix,
    unscaled,
    w_bar,
)
from moiety.split.assigned import Assigned, RoundRobin

NEAR = {"rtol": 0, "atol": 1e-9}


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def curve(size: int, *, unit: bool = False) -> torch.Tensor:
    """Draw a positive definite matrix, of unit diagonal if asked."""
    root = torch.randn(size, 2 * size, generator=rng(), dtype=torch.float64)
    full = root @ root.T / size
    scale = full.diagonal().rsqrt()
    return full * scale[:, None] * scale if unit else full


def vector(size: int) -> torch.Tensor:
    return torch.randn(size, generator=rng(), dtype=torch.float64)


def dealing(size: int) -> Assigned:
    return Assigned({UNIT: size}, {UNIT: RoundRobin()})


@pytest.mark.parametrize("num", [1, 2, 4])
def test_q1_without_shift_the_energy_falls_at_least_as_fast_as_the_bound(num):
    found, bound = decay(curve(4), num, vector(4), 12)
    assert all(a <= b * (1 + 1e-9) for a, b in zip(found, bound, strict=True))
    assert found[-1] < 0.9 * found[0]


def test_scaled_steps_are_the_matrix_of_the_theory():
    """One round of two workers with scale n: x - gamma mean C L C x."""
    matrix, x = curve(4), vector(4)
    for hands in all_hands(4, 2):
        found = run(same(matrix, 0 * x, 2, 2.0, 0.5), x, 0.1, given(hands), 1)[-1]
        torch.testing.assert_close(found, x - 0.1 * step_matrix(matrix, hands) @ x, **NEAR)


@pytest.mark.parametrize(("link", "sign"), [(1.5, 1), (1.599, 1), (1.601, -1), (1.99, -1)])
def test_q2_w_turns_indefinite_before_the_curvature_does(link, sign):
    matrix = torch.tensor([[1.0, link], [link, 4.0]], dtype=torch.float64)
    assert torch.linalg.det(matrix) > 0
    assert torch.linalg.det(w_bar(matrix, 2)) * sign > 0
    wanted = 4 * 16 - link**2 * 25  # LD + DL = [[2, 5c], [5c, 32]]
    assert float(torch.linalg.det(w_bar(matrix, 2))) == pytest.approx(wanted)


def test_q3_alike_workers_go_to_the_shift_and_not_to_the_solution():
    """x_k = b / sqrt(n) + (1 - gamma)^k (x_0 - b / sqrt(n)), for every draw."""
    matrix, b, x = curve(5, unit=True), vector(5), 3 * vector(5)
    limit, world = b / 5**0.5, same(matrix, b, 5, 5**0.5, 0.2)
    path = run(world, x, 0.3, dealing(5), 60)
    for step, found in enumerate(path, 1):
        torch.testing.assert_close(found, limit + 0.7**step * (x - limit), **NEAR)
    assert (path[-1] - torch.linalg.solve(matrix, b)).norm() > 0.1


def unlike(shift: torch.Tensor) -> World:
    """Give three workers curvatures of their own, sketched by sqrt(n) D_i^(-1/2)."""
    curves = torch.stack([curve(3) + place * torch.eye(3) for place in (0.0, 1.0, 3.0)])
    scales = (3 / curves.diagonal(dim1=1, dim2=2)).sqrt()
    return World(curves, shift, scales, 1 / 3)


def test_q4_unlike_workers_without_shift_are_done_in_one_round():
    for order in permutations(range(3)):
        hands = [[place] for place in order]
        found = run(unlike(torch.zeros(3, 3).double()), vector(3), 1.0, given(hands), 1)[-1]
        assert float(found.abs().max()) < 1e-12


def test_q4_with_shift_the_mean_is_biased_whatever_the_step():
    shift = torch.randn(3, 3, generator=rng(), dtype=torch.float64)
    world = unlike(shift)
    diagonals = world.curve.diagonal(dim1=1, dim2=2)
    wanted = (shift / diagonals.sqrt()).sum(0) / (3 * 3**0.5)
    for rate in (1.0, 0.25):
        x = vector(3)
        for _ in range(round(25 / rate)):  # a round is linear in x, so means go on from means
            x = expected(world, x, rate)
        torch.testing.assert_close(x, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("num", [1, 2, 4])
def test_q6_unscaled_parts_move_by_m_bar_on_average(num):
    matrix, b, x = curve(4), vector(4), 2 * vector(4)
    found = expected(unscaled(matrix, b, num), x, 0.1)
    torch.testing.assert_close(found, x - 0.1 * (m_bar(matrix, num) @ x - b), **NEAR)


@pytest.mark.parametrize(("num", "limit"), [(1, 0.4), (2, 2 / 3), (4, 1.0)])
def test_q6_by_hand(num, limit):
    """L is 1 on the diagonal and 0.5 elsewhere, b = 1: 0.4, 0.6667 and 1.0, without noise."""
    matrix = torch.full((4, 4), 0.5, dtype=torch.float64) + 0.5 * torch.eye(4)
    ones = torch.ones(4, dtype=torch.float64)
    found = run(unscaled(matrix, ones, num), 0 * ones, 0.3, dealing(4), 120)[-1]
    torch.testing.assert_close(found, limit * ones, rtol=0, atol=1e-8)
    torch.testing.assert_close(torch.linalg.solve(m_bar(matrix, num), ones), limit * ones)
