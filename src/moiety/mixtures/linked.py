"""Experts of any law: regressions whose line goes through a link.

Letters: N rows, D columns with the constant, K experts, P spreads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from moiety.mixtures.experts import ExpertDerivatives, StepOptions, follow_logarithms
from moiety.mixtures.law import Law
from moiety.mixtures.logit import (
    Array,
    make_slope_penalty,
    solve_symmetric,
    weighted_grams,
)
from moiety.mixtures.penalties import step_with_lasso
from moiety.mixtures.sharing import step_together


@dataclass(frozen=True)
class LinkedExperts:
    """Regressions under one law: ``coef`` [D, K], and the law's ``spreads`` [P, K]."""

    coef: Array
    spreads: Array
    law: Law

    def lines(self, x_ND: Array, /) -> Array:
        """Give what is linear in x, [N, K]."""
        return self.law.hold(x_ND @ self.coef)

    def log_density(self, lines: Array, y: Array, /) -> Array:
        """Give the log density of y under each expert, [N, K]."""
        return self.law.log_density(lines, y[:, None], self.spreads)

    def prepare_step(self, lines: Array, y: Array, shares_NK: Array, /) -> ExpertDerivatives:
        """Give the columns whose sums over rows make the M-step."""
        found = self.law.prepare_step(lines, y[:, None], self.spreads, shares_NK)
        squares = [term.sum(0) for term in found.terms]
        stacked = squares[0] if len(squares) == 1 else np.stack(squares)
        return ExpertDerivatives(found.curves, found.slopes, stacked)

    def advance(
        self, grams: Array, slopes: Array, squares: Array, options: StepOptions, /
    ) -> LinkedExperts:
        """Make one Newton step of the lines per expert, and one of the spreads."""
        ridge = options.ridge + options.own_ridge
        coef, penalty = self.coef.copy(), make_slope_penalty((len(self.coef), 1), ridge)
        steps = np.zeros_like(coef)
        if options.shared:
            steps = step_together(slopes, grams, coef, ridge, options.shared)
        else:
            for k in np.flatnonzero(grams[:, 0, 0] > 0):
                here = coef[:, [k]]
                one = step_with_lasso(slopes[:, [k]], grams[k], here, penalty, options.lasso)
                steps[:, k] = one[:, 0]
        moved = options.step_size * steps
        change = np.einsum("dk,kde,ek->k", moved, grams, moved) - 2 * (moved * slopes).sum(0)
        return replace(self, coef=coef + moved, spreads=self._move(squares, change, options))

    def _move(self, squares: Array, change_K: Array, options: StepOptions) -> Array:
        """Make the M-step of the spreads; one that all share is of the sums of all."""
        if not len(self.spreads):
            return self.spreads
        sums = np.atleast_2d(squares)
        if not options.one_spread:
            return self.law.move(self.spreads, sums, change_K, options)
        moved = self.law.move(
            self.spreads[:, :1], sums.sum(1, keepdims=True), change_K.sum(keepdims=True), options
        )
        return np.repeat(moved, self.spreads.shape[1], 1)

    def penalty(self, options: StepOptions, /) -> float:
        """Give half the ridge times the squared slopes, and the own penalties."""
        ridge = 0.5 * options.ridge * float((self.coef[1:] ** 2).sum())
        return ridge + options.weigh_slopes(self.coef)

    def pick(self, order: Array, /) -> LinkedExperts:
        """Take experts by index."""
        return replace(self, coef=self.coef[:, order], spreads=self.spreads[:, order])

    def mapped(self, matrix_DD: Array, /) -> LinkedExperts:
        """Express the coefficients in other covariates."""
        return replace(self, coef=matrix_DD @ self.coef)

    def size(self) -> int:
        """Count coefficients and spreads."""
        return self.coef.size + self.spreads.size

    def share_spread(self) -> LinkedExperts:
        """Give all experts the geometric mean of each spread."""
        middle = np.exp(np.log(self.spreads).mean(1, keepdims=True))
        return replace(self, spreads=np.repeat(middle, self.spreads.shape[1], 1))

    def pack(self) -> Array:
        """Lay coefficients and logarithms of spreads out in one vector."""
        return np.concatenate([self.coef.ravel(), np.log(self.spreads).ravel()])

    def unpack(self, values: Array, floor: float, /) -> LinkedExperts:
        """Give the experts of a vector, with spreads near these."""
        coef = values[: self.coef.size].reshape(self.coef.shape)
        spreads = follow_logarithms(self.spreads, values[self.coef.size :])
        return replace(self, coef=coef, spreads=self.law.hold_spreads(spreads, floor))


def make_blank_linked(law: Law, columns: int, experts: int) -> LinkedExperts:
    """Make experts that know nothing."""
    return LinkedExperts(np.zeros((columns, experts)), law.begin(np.ones(experts)), law)


def start_linked(
    zero: LinkedExperts, x_ND: Array, linked: Array, shares_NK: Array, used: Array
) -> LinkedExperts:
    """Fit each expert's share of the linked response by least squares: where Newton may begin.

    Args:
        zero: experts that know nothing.
        x_ND: the columns in use.
        linked: responses on the scale of the line, less what is fixed of it, [N].
        shares_NK: of every row.
        used: places of the columns in use.
    """
    law, whole = zero.law, zero.coef.copy()
    grams = weighted_grams(x_ND, shares_NK)
    right = x_ND.T @ (shares_NK * linked[:, None])
    coef = np.stack([solve_symmetric(gram, right[:, k]) for k, gram in enumerate(grams)], 1)
    left = (shares_NK * (linked[:, None] - x_ND @ coef) ** 2).sum(0)
    mass = shares_NK.sum(0)
    variance = np.where(mass > 0, left / np.where(mass > 0, mass, 1.0), 1.0)
    whole[used] = coef
    return LinkedExperts(whole, law.soften(law.begin(variance)), law)


def score_linked(experts: LinkedExperts, x_ND: Array, y: Array) -> Array:
    """Give each expert's score as if the row were its own, [K, N, D + P]."""
    found = experts.law.differentiate(experts.lines(x_ND), y[:, None], experts.spreads)
    line = found.line.T[:, :, None] * x_ND
    return np.concatenate([line, np.moveaxis(found.spreads, (0, 2), (2, 0))], 2)


def inform_linked(experts: LinkedExperts, x_ND: Array, y: Array, shares_NK: Array) -> Array:
    """Give the complete-data information of each expert, [K, D + P, D + P]."""
    found = experts.law.differentiate(experts.lines(x_ND), y[:, None], experts.spreads)
    columns, extra = x_ND.shape[1], len(experts.spreads)
    whole = np.zeros((shares_NK.shape[1],) + (columns + extra,) * 2)
    whole[:, :columns, :columns] = weighted_grams(x_ND, shares_NK * found.bend)
    for p in range(extra):
        at = columns + p
        whole[:, :columns, at] = whole[:, at, :columns] = (x_ND.T @ (shares_NK * found.cross[p])).T
        for q in range(extra):
            whole[:, at, columns + q] = (shares_NK * found.bends[p, q]).sum(0)
    return whole
