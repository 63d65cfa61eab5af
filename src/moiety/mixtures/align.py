"""Which expert of one mixture is which of another.

Letters: S support rows, M mixtures, K experts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from moiety.mixtures.cost import Cost
from moiety.mixtures.logit import Array
from moiety.mixtures.model import E, Mixture, gate_proba, reorder_experts
from moiety.mixtures.transport import find_cheapest, join_experts, replace_arrays


def solve_assignment(cost_KK: Array) -> Array:
    """Give the column of each row so that the sum of costs is least; shortest augmenting paths.

    >>> solve_assignment(np.array([[4.0, 1.0], [2.0, 3.0]])).tolist()
    [1, 0]
    """
    size = len(cost_KK)
    row_of, offset, price = np.full(size + 1, -1), np.zeros(size), np.zeros(size + 1)
    for row in range(size):
        row_of[size] = row
        column, reach = size, np.full(size, np.inf)
        came, seen = np.full(size, size), np.zeros(size + 1, bool)
        while row_of[column] >= 0:
            seen[column] = True
            here = row_of[column]
            slack = cost_KK[here] - offset[here] - price[:size]
            nearer = ~seen[:size] & (slack < reach)
            reach[nearer], came[nearer] = slack[nearer], column
            following = int(np.argmin(np.where(seen[:size], np.inf, reach)))
            rise = reach[following]
            offset[row_of[seen]] += rise
            price[seen] -= rise
            reach[~seen[:size]] -= rise
            column = following
        while column != size:
            row_of[column] = row_of[came[column]]
            column = int(came[column])
        row_of[size] = -1
    return np.argsort(row_of[:size])


def compare_experts(x_SD: Array, u_S: Array, first: Mixture[E], experts: E, cost: Cost[E]) -> Array:
    """Give the mean cost of carrying each expert of a mixture to each of others, [K, K']."""
    mass = u_S[:, None] * gate_proba(first, x_SD)
    paid = (mass * cost.between(x_SD, first.experts, experts)).sum(1).T
    return paid / np.maximum(mass.sum(0), 1e-12)[:, None]


def match_experts(x_SD: Array, u_S: Array, mixture: Mixture[E], experts: E, cost: Cost[E]) -> Array:
    """Give the order in which a mixture's experts match others one to one."""
    return np.argsort(solve_assignment(compare_experts(x_SD, u_S, mixture, experts, cost)))


def measure_divergence(
    x_SD: Array, u_S: Array, first: Mixture[E], second: Mixture[E], cost: Cost
) -> float:
    """Give the least cost of carrying the first mixture's experts to the second's."""
    paid = cost.between(x_SD, first.experts, second.experts).min(0)
    return float((u_S[:, None] * gate_proba(first, x_SD) * paid).sum())


def compare_mixtures(
    x_SD: Array, u_S: Array, mixtures: Sequence[Mixture[E]], cost: Cost[E]
) -> Array:
    """Give how far each mixture is from each other one, gates included, from row to column, [M, M].

    Each expert goes to the nearest one of the other mixture; to what that costs is added the KL
    divergence of the gate so carried from the other gate. For the KL cost, the chain rule makes
    this a bound on the KL divergence of the two mixtures.
    """
    whole = join_experts(m.experts for m in mixtures)
    gates = [gate_proba(m, x_SD) for m in mixtures]
    mass, starts = np.concatenate(gates, 1), np.cumsum([0] + [g.shape[1] for g in gates[:-1]])
    columns = []
    for mixture, gate in zip(mixtures, gates, strict=True):
        choice, least = find_cheapest(cost.between(x_SD, whole, mixture.experts))
        paid = np.add.reduceat(u_S @ (mass * least), starts)
        for k in range(mixture.num_experts):
            sent = np.add.reduceat(mass * (choice == k), starts, axis=1)
            ratio = np.maximum(sent, 1e-300) / np.maximum(gate[:, [k]], 1e-300)
            paid = paid + u_S @ (sent * np.log(ratio))
        columns.append(paid)
    return np.stack(columns, 1)


def average_mixture_parameters(mixtures: Sequence[Mixture[E]], weights_M: Array) -> Mixture[E]:
    """Average the parameters of mixtures whose experts are in one order."""
    share = weights_M / weights_M.sum()

    def blend(values: Iterable[Array]) -> Array:
        return np.tensordot(share, np.stack(list(values)), 1)

    first = mixtures[0].experts
    names = [name for name, value in vars(first).items() if isinstance(value, np.ndarray)]
    fields = {name: blend(getattr(m.experts, name) for m in mixtures) for name in names}
    return Mixture(blend(m.gate for m in mixtures), replace_arrays(first, fields))


def align_mixtures(
    x_SD: Array, u_S: Array, mixtures: Sequence[Mixture[E]], experts: E, cost: Cost[E]
) -> list[Mixture[E]]:
    """Put every mixture's experts in the order of the experts given."""
    return [reorder_experts(m, match_experts(x_SD, u_S, m, experts, cost)) for m in mixtures]
