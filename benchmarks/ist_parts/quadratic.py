"""Independent subnets on quadratics, played by the project's own split, solver and merge.

Shulgin and Richtarik, *Towards a Better Theoretical Understanding of Independent Subnetwork
Training*, arXiv:2306.16484. Worker i has f_i = x'L_i x / 2 - b_i'x and steps along
(s / n) C_i (L_i C_i x - b_i), where C_i is its subnet times some scale. Letters: D coordinates,
W workers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations

import torch
from torch import Tensor

from moiety.core.axes import Axes, Part
from moiety.core.protocols import Kept, Method, Split
from moiety.core.rows import TableRows
from moiety.core.state import Share
from moiety.core.types import Batch, Params
from moiety.engine.serial import Serial
from moiety.merge.overlap import overlap
from moiety.ops.optim import SGD
from moiety.rounds.synchronous import initialise_state, play_round
from moiety.serve.choose import Plain
from moiety.solve.sgd import LocalSGD
from moiety.split.own import Own

UNIT = "unit"


@dataclass(frozen=True)
class Point:
    """A model that is one vector; it answers nothing."""

    params: Params
    axes: Axes
    buffers: Mapping[str, str] = field(default_factory=dict)
    draws_noise: bool = False
    uses_batch_statistics: bool = False

    def logits(self, params: Params, batch: Batch, kept: Kept, /) -> Tensor:
        raise NotImplementedError

    def forward(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        raise NotImplementedError


def quadratic(params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
    """Give the objective of a subnet, [1]: the scaled rest of the vector is zero."""
    subnet = kept[UNIT]
    scaled_D = batch["scale"][0][subnet] * params["x"]
    curved = batch["curve"][0][subnet][:, subnet] @ scaled_D
    value = scaled_D @ (curved / 2 - batch["shift"][0][subnet])
    return value[None] * batch["factor"], {}


@dataclass(frozen=True)
class World:
    """What workers have: L [W, D, D], b [W, D], scales of C [W, D], and s / n."""

    curve: Tensor
    shift: Tensor
    scale: Tensor
    factor: float

    def rows(self, worker: int) -> TableRows:
        """Give a worker its one row."""
        some = slice(worker, worker + 1)
        table = {"curve": self.curve[some], "shift": self.shift[some], "scale": self.scale[some]}
        table["factor"] = torch.tensor([self.factor], dtype=torch.float64)
        return TableRows(table, torch.zeros(1, dtype=torch.long))


def same(curve: Tensor, shift: Tensor, num: int, scale: float, factor: float) -> World:
    """Give all workers the same objective."""
    scales = torch.full((num, len(shift)), scale, dtype=torch.float64)
    return World(curve.expand(num, -1, -1), shift.expand(num, -1), scales, factor)


def method(x_D: Tensor, rate: float, split: Split) -> Method:
    """Make one local step a round, merged by holders."""
    model = Point({"x": x_D}, {"x": (UNIT,)})
    solve = LocalSGD({"": quadratic}, (("*", SGD(rate)),), batch=1)
    return Method("quadratic", model, split, solve, overlap, Plain(model))


def run(world: World, x_D: Tensor, rate: float, split: Split, rounds: int) -> list[Tensor]:
    """Play rounds; give the vector after each."""
    made, cohort = method(x_D, rate, split), list(range(len(world.shift)))
    engine, state, path = Serial(world.rows), initialise_state(made), []
    for _ in range(rounds):
        state = play_round(made, engine, state, cohort, 0)
        path.append(state.params["x"])
    return path


def given(subnets: Sequence[Sequence[int]]) -> Split:
    """Assign subnets that are given."""
    shares = {
        worker: Share(Part({UNIT: torch.tensor(sorted(subnet))}))
        for worker, subnet in enumerate(subnets)
    }
    return Own(shares)


def all_hands(size: int, num: int) -> list[list[tuple[int, ...]]]:
    """List every way to deal equally many coordinates to each worker, each as likely."""
    each = size // num
    found = {
        tuple(tuple(sorted(order[w * each : (w + 1) * each])) for w in range(num))
        for order in permutations(range(size))
    }
    return [list(subnets) for subnets in sorted(found)]


def expected(world: World, x_D: Tensor, rate: float) -> Tensor:
    """Average the vector after one round over every way to deal, [D]."""
    ways = all_hands(len(x_D), len(world.shift))
    return torch.stack([run(world, x_D, rate, given(w), 1)[-1] for w in ways]).mean(0)


def step_matrix(curve: Tensor, subnets: Sequence[Sequence[int]]) -> Tensor:
    """Give mean C_i L C_i of one way to deal, C_i = n times the subnet, [D, D]."""
    total = torch.zeros_like(curve)
    for subnet in subnets:
        index = torch.tensor(subnet)
        total[index[:, None], index] += len(subnets) * curve[index][:, index]
    return total


def w_bar(curve: Tensor, num: int) -> Tensor:
    """Give (L E[B] + E[B] L) / 2, whose sign decides whether independent training converges."""
    mean = torch.stack([step_matrix(curve, w) for w in all_hands(len(curve), num)]).mean(0)
    return (curve @ mean + mean @ curve) / 2


def decay(curve: Tensor, num: int, x_D: Tensor, rounds: int) -> tuple[list[float], list[float]]:
    """Give E||x_k||^2_L, exactly, beside the bound of Q1, for the largest rate that it allows.

    The second moment of x moves linearly, so that the mean over all deals needs no sampling.
    """
    ways = [step_matrix(curve, w) for w in all_hands(len(curve), num)]
    mean = w_bar(curve, num)
    grown = torch.stack([b @ curve @ b for b in ways]).mean(0)
    half = torch.linalg.inv(torch.linalg.cholesky(mean))
    rate = 1 / float(torch.linalg.eigvalsh(half @ grown @ half.T).max())
    root = torch.linalg.inv(torch.linalg.cholesky(curve))
    least = float(torch.linalg.eigvalsh(root @ mean @ root.T).min())
    moment = torch.outer(x_D, x_D)
    found, bound = [], []
    for step in range(1, rounds + 1):
        moves = [torch.eye(len(curve), dtype=torch.float64) - rate * b for b in ways]
        moment = torch.stack([m @ moment @ m.T for m in moves]).mean(0)
        found.append(float((curve * moment).sum()))
        bound.append((1 - rate * least) ** step * float(x_D @ curve @ x_D))
    return found, bound


def m_bar(curve: Tensor, num: int) -> Tensor:
    """Give D + rho (L - D), what unscaled training sees of the curvature on average (Q6)."""
    size = len(curve)
    diagonal = torch.diag(curve.diagonal())
    return diagonal + (size // num - 1) / (size - 1) * (curve - diagonal)


def unscaled(curve: Tensor, shift: Tensor, num: int) -> World:
    """Train as independent subnets really do: no scales at all."""
    return replace(same(curve, shift, num, 1.0, 1.0))
