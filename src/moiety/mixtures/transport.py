"""Carry many experts to few by majorisation and minimisation.

Letters: S support rows, D columns with the constant, L local experts, K reduced experts.

For given reduced experts the best plan sends each local expert, at each support row, to the
cheapest reduced one; for a given plan each cost has its exact minimiser. So the objective

    R = sum_s u_s sum_l w_l(x_s) min_k c(local l, reduced k at x_s)

never rises, and the loop ends when no assignment changes and R rests, as k-means does.
arXiv:2312.09877.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic

import numpy as np

from moiety.mixtures.cost import Cost
from moiety.mixtures.logit import Array
from moiety.mixtures.model import E

COST_ENTRIES = 1 << 21  # entries of a cost tensor held at once


@dataclass(frozen=True)
class TransportProblem(Generic[E]):
    """Support rows, the mass u_s w_l(x_s) there, all local experts, and the cost."""

    x: Array
    mass: Array
    experts: E
    cost: Cost[E]


def thin_support(problem: TransportProblem[E], step: int) -> TransportProblem[E]:
    """Keep every ``step``-th support row."""
    x_SD, mass_SL = problem.x[::step], problem.mass[::step]
    return TransportProblem(x_SD, mass_SL / mass_SL.sum(), problem.experts, problem.cost)


@dataclass(frozen=True)
class TransportResult(Generic[E]):
    """Reduced experts, the mass that each support row sends them [S, K], and R at every step."""

    experts: E
    mass: Array
    trace: tuple[float, ...]

    @property
    def objective(self) -> float:
        """Give R at the end."""
        return self.trace[-1]


@dataclass(frozen=True)
class TransportPlan:
    """Where each local expert goes at each row [S, L], and what that costs [S, L]."""

    choice: Array
    paid: Array


def plan_transport(problem: TransportProblem[E], reduced: E) -> TransportPlan:
    """Send every local expert to the cheapest reduced one at every row; ties to the lowest."""
    rows, local = problem.mass.shape
    step = max(1, COST_ENTRIES // (local * reduced.coef.shape[1]))
    choice = np.empty((rows, local), np.int16)
    paid = np.empty((rows, local))
    for at in range(0, rows, step):
        part = slice(at, at + step)
        cost = problem.cost.between(problem.x[part], problem.experts, reduced)
        choice[part], paid[part] = find_cheapest(cost)
    return TransportPlan(choice, problem.mass * paid)


def find_cheapest(cost_KSL: Array) -> tuple[Array, Array]:
    """Give the lowest k of least cost, and that cost, [S, L]; faster than argmin for few k."""
    least = cost_KSL[0].copy()
    choice = np.zeros(least.shape, np.int16)
    for k, cost in enumerate(cost_KSL[1:], 1):
        better = cost < least
        choice[better] = k
        np.minimum(least, cost, out=least)
    return choice, least


def spread_mass(problem: TransportProblem, found: TransportPlan, size: int) -> Array:
    """Lay a plan out as mass, [K, S, L]."""
    chosen = found.choice == np.arange(size)[:, None, None]
    return chosen * problem.mass


def transport_experts(
    problem: TransportProblem[E], start: E, *, max_iter: int = 500, tol: float = 1e-10
) -> TransportResult[E]:
    """Alternate plan and experts until no assignment changes and R hardly falls.

    Both are asked, for an update may stop short of the minimum for its plan: then R still falls
    though every assignment stays. Where updates are exact, the first implies the second.

    Args:
        problem: what is carried.
        start: the reduced experts to begin from.
        max_iter: the most updates.
        tol: the least relative fall that is worth another update.
    """
    reduced, size = start, start.coef.shape[1]
    found = plan_transport(problem, reduced)
    trace = [float(found.paid.sum())]
    for _ in range(max_iter):
        masses = spread_mass(problem, found, size)
        reduced = problem.cost.update(problem.x, masses, problem.experts, reduced)
        reduced, refilled = refill_experts(problem, reduced, masses, found)
        before, found = found, plan_transport(problem, reduced)
        trace.append(float(found.paid.sum()))
        same = (found.choice == before.choice).all() and not refilled
        if same and trace[-2] - trace[-1] <= tol * abs(trace[-2]):
            break
    return TransportResult(reduced, spread_mass(problem, found, size).sum(-1).T, tuple(trace))


def refill_experts(
    problem: TransportProblem[E], reduced: E, masses: Array, found: TransportPlan
) -> tuple[E, bool]:
    """Give reduced experts without mass the local experts that pay most."""
    empty = np.flatnonzero(masses.sum((1, 2)) == 0)
    if not len(empty) or found.paid.sum() <= 0:
        return reduced, False
    costly = np.argsort(-found.paid.sum(0), kind="stable")[: len(empty)]
    return replace_experts(reduced, empty, problem.experts.pick(costly)), True


def replace_experts(experts: E, places: Array, others: E) -> E:
    """Put other experts at some places."""
    order = np.arange(experts.coef.shape[1])
    order[places] = len(order) + np.arange(len(places))
    return join_experts([experts, others]).pick(order)


def join_experts(parts: Iterable[E]) -> E:
    """Lay experts side by side."""
    parts = list(parts)
    fields = {
        name: np.concatenate([getattr(part, name) for part in parts], -1 if name != "coef" else 1)
        for name, value in vars(parts[0]).items()
        if isinstance(value, np.ndarray)
    }
    return replace_arrays(parts[0], fields)


def replace_arrays(experts: E, fields: Mapping[str, Array]) -> E:
    """Give experts of other arrays; what is no array stays."""
    return type(experts)(**{**vars(experts), **fields})
