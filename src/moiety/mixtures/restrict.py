"""Reductions in which gate and experts use some columns only.

Letters: S support rows, D columns with the constant, L local experts, K reduced experts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np

from moiety.mixtures.cost import Cost
from moiety.mixtures.freedom import Freedom, set_coefficients
from moiety.mixtures.inputs import LocalFit
from moiety.mixtures.linked import LinkedExperts
from moiety.mixtures.logit import Array
from moiety.mixtures.model import E

OFFSET_WEIGHTS: dict[str, Callable[[Array], Array]] = {
    "gamma": np.ones_like, "student": np.ones_like, "poisson": np.exp,
}  # fmt: skip


@dataclass(frozen=True)
class RestrictedCost(Generic[E]):
    """A cost whose minimiser moves some coefficients only; of the others all experts have one.

    What the others say of a row is the same for all: it cancels where only differences of lines
    count, and weighs the rows of Poisson experts by its exponential.

    Args:
        cost: without restriction.
        rows: the columns whose coefficients move.
    """

    cost: Cost[E]
    rows: Array

    def between(self, x_SD: Array, local: E, reduced: E, /) -> Array:
        return self.cost.between(x_SD, local, reduced)

    def update(self, x_SD: Array, plan_KSL: Array, local: E, reduced: E, /) -> E:
        """Give the experts of least cost in the columns that move."""
        pick = np.eye(x_SD.shape[1])[self.rows]
        still, experts = np.setdiff1d(np.arange(x_SD.shape[1]), self.rows), local.mapped(pick)
        fixed = local.coef[still]
        if isinstance(local, LinkedExperts) and fixed.any():
            weights = OFFSET_WEIGHTS[local.law.name](x_SD[:, still] @ fixed[:, 0])
            plan_KSL = plan_KSL * weights[:, None]
        few = self.cost.update(x_SD[:, self.rows], plan_KSL, experts, reduced.mapped(pick))
        coef = reduced.coef.copy()
        coef[self.rows] = few.coef
        return set_coefficients(few, coef)


def restrict_cost(cost: Cost[E], free: Freedom, columns: int) -> Cost[E]:
    """Give the cost in which experts use their columns only."""
    rows = free.find_expert_rows(columns)
    return cost if len(rows) == columns else RestrictedCost(cost, rows)


def widen_gate(gate: Array, rows: Array, columns: int) -> Array:
    """Give the gate of all columns, [D, K]; those that it does not use have 0."""
    whole = np.zeros((columns, gate.shape[1]))
    whole[rows] = gate
    return whole


def check_restricted(fits: Sequence[LocalFit], free: Freedom) -> None:
    """Refuse fits that use columns which they may not use."""
    for place, fit in enumerate(fits):
        held, found = free.hold(fit.mixture), fit.mixture
        pairs = (held.gate, found.gate), (held.experts.coef, found.experts.coef)
        if not all(np.allclose(*pair, equal_nan=True) for pair in pairs):
            raise ValueError(
                f"fit {place} uses covariates that gate_columns, expert_columns or offset leave "
                "out here; fit all by the same options"
            )
