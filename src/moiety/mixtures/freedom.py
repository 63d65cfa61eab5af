"""Which columns gate and experts use, and what experts share.

Letters: D columns with the constant, K experts, J = K - 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from moiety.mixtures.experts import Experts, StepOptions
from moiety.mixtures.logit import Array
from moiety.mixtures.model import E, Mixture
from moiety.mixtures.scale import StandardScale

X = TypeVar("X", bound=Experts)


@dataclass(frozen=True)
class Freedom:
    """Which coefficients move, the constant's first; None for all.

    Args:
        gate: columns that the gate uses, [D]; its coefficients of others are 0.
        experts: columns that experts use, [D]; their coefficients of others are the ``fixed``.
        fixed: coefficients that all experts have and that nobody moves, [D]; None for 0.
        shared: columns of which all experts have one slope, [D]; None for none.
        one_spread: all experts have one spread.
    """

    gate: tuple[bool, ...] | None = None
    experts: tuple[bool, ...] | None = None
    fixed: tuple[float, ...] | None = None
    shared: tuple[bool, ...] | None = None
    one_spread: bool = False

    def express(self, scale: StandardScale) -> Freedom:
        """Give the freedom in standardised units, in which constant columns are left out."""
        kept = np.concatenate([[True], scale.kept])
        stretch = np.concatenate([[1.0], scale.spread]) / scale.factor
        fixed = self.fixed
        if fixed is not None:
            fixed = tuple((np.array(fixed)[kept] * stretch).tolist())
        gate, experts, shared = (_take(m, kept) for m in (self.gate, self.experts, self.shared))
        return Freedom(gate, experts, fixed, shared, self.one_spread)

    def find_gate_rows(self, columns: int) -> Array:
        """Give the places of the gate's columns."""
        return np.arange(columns) if self.gate is None else np.flatnonzero(self.gate)

    def find_expert_rows(self, columns: int) -> Array:
        """Give the places of the experts' columns."""
        return np.arange(columns) if self.experts is None else np.flatnonzero(self.experts)

    def find_shared_rows(self) -> tuple[int, ...]:
        """Give the places of columns whose slopes are shared."""
        return tuple(np.flatnonzero(self.shared or ()).tolist())

    def hold(self, mixture: Mixture[E]) -> Mixture[E]:
        """Set the coefficients that may not move to what they must be."""
        gate, experts = mixture.gate, mixture.experts
        if self.gate is not None:
            gate = gate * np.array(self.gate, float)[:, None]
        if self.experts is not None:
            free = np.array(self.experts)
            fixed = np.zeros(len(free)) if self.fixed is None else np.array(self.fixed)
            coef = experts.coef.copy()
            coef[~free] = fixed[~free].reshape(-1, *[1] * (coef.ndim - 1))
            experts = set_coefficients(experts, coef)
        if self.shared is not None:
            coef, rows = experts.coef.copy(), list(self.find_shared_rows())
            coef[rows] = coef[rows].mean(1, keepdims=True)
            experts = set_coefficients(experts, coef)
        if self.one_spread:
            experts = experts.share_spread()
        return replace(mixture, gate=gate, experts=experts)


ALL_FREE = Freedom()


def _take(mask: tuple[bool, ...] | None, kept: Array) -> tuple[bool, ...] | None:
    return None if mask is None else tuple(np.array(mask)[kept].tolist())


def set_coefficients(experts: X, coef: Array) -> X:
    """Give experts of other coefficients."""
    return type(experts)(**{**vars(experts), "coef": coef})


def cut_information(information: Array, rows: Array, free: int) -> Array:
    """Take some columns out of a gate's information, [J * D, J * D]."""
    columns = len(information) // free
    taken = (np.arange(free)[:, None] * columns + rows).ravel()
    return information[np.ix_(taken, taken)]


def advance_free(
    experts: X, grams: Array, slopes: Array, squares: Array, options: StepOptions, rows: Array
) -> X:
    """Make the M-step of experts in some of their columns; those that they share are among them."""
    columns = len(experts.coef)
    if len(rows) == columns:
        return experts.advance(grams, slopes, squares, options)
    options = replace(options, shared=tuple(np.searchsorted(rows, options.shared).tolist()))
    few = experts.mapped(np.eye(columns)[rows])
    moved = few.advance(grams[:, rows][:, :, rows], slopes[rows], squares, options)
    coef = experts.coef.copy()
    coef[rows] = moved.coef
    return set_coefficients(moved, coef)
