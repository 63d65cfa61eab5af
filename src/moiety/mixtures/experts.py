"""Experts: what EM asks of them, and the normal ones.

Letters: N rows, D columns with the constant, K experts, G classes.

An M-step of either family is one Newton step from sums over the rows; for Gaussian experts the
Newton step is exact: it is the weighted least squares solution.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np

from moiety.mixtures.logit import (
    Array,
    make_slope_penalty,
    solve_stack,
    solve_symmetric,
)
from moiety.mixtures.penalties import step_with_lasso
from moiety.mixtures.sharing import step_together

LARGEST_LOG_STEP = 1.0  # of the logarithm of a spread
HOLDINGS = 20  # the most times that slopes beyond their limit are looked for
Self = TypeVar("Self", bound="Experts")


@dataclass(frozen=True)
class ExpertDerivatives:
    """What the rows say of the experts: columns of weights and of residuals, and plain sums."""

    curves: Array
    slopes: Array
    squares: Array


@dataclass(frozen=True)
class StepOptions:
    """How an M-step is made: a ridge, the least variance, and the part of a Newton step taken.

    Slopes of regressions beyond ``limit`` are drawn back to it, as by a normal prior of spread 1.
    ``own_ridge`` and ``lasso`` are of the slopes of experts of any kind; a lasso takes the limit's
    place. Of the columns in ``shared`` all experts have one slope, which the limit and a lasso do
    not know of; with ``one_spread`` they have one spread too.
    """

    ridge: float
    floor: float
    step_size: float = 1.0
    limit: float = np.inf
    own_ridge: float = 0.0
    lasso: float = 0.0
    shared: tuple[int, ...] = ()
    one_spread: bool = False

    def weigh_slopes(self, coef: Array) -> float:
        """Give what ``own_ridge`` and ``lasso`` take from the log-likelihood."""
        if not (self.own_ridge or self.lasso):
            return 0.0
        slopes = coef[1:]
        return 0.5 * self.own_ridge * float((slopes**2).sum()) + self.lasso * float(
            np.abs(slopes).sum()
        )


class Experts(Protocol):
    """K conditional densities of y given x, linear in x up to a link."""

    @property
    def coef(self) -> Array:
        """Give the coefficients, [D, K] or [D, K, G]."""
        ...

    def lines(self, x_ND: Array, /) -> Array:
        """Give what x says of y under each expert, [N, K] or [N, K, G]."""
        ...

    def log_density(self, lines: Array, y: Array, /) -> Array:
        """Give the log density of y under each expert, [N, K]."""
        ...

    def prepare_step(self, lines: Array, y: Array, shares_NK: Array, /) -> ExpertDerivatives:
        """Give the columns whose sums over rows make the M-step."""
        ...

    def advance(
        self: Self, grams: Array, slopes: Array, squares: Array, options: StepOptions, /
    ) -> Self:
        """Make the M-step from the sums of a prepared step."""
        ...

    def penalty(self, options: StepOptions, /) -> float:
        """Give what the ridge and the prior take from the log-likelihood."""
        ...

    def pick(self: Self, order: Array, /) -> Self:
        """Take experts by index."""
        ...

    def mapped(self: Self, matrix_DD: Array, /) -> Self:
        """Express the coefficients in other covariates: ``matrix @ coef``."""
        ...

    def size(self) -> int:
        """Count the free parameters."""
        ...

    def share_spread(self: Self) -> Self:
        """Give all experts one spread, between those that they have."""
        ...

    def pack(self) -> Array:
        """Lay coefficients and logarithms of spreads out in one vector."""
        ...

    def unpack(self: Self, values: Array, floor: float, /) -> Self:
        """Give the experts of a vector; their spreads are near these, and where they may be."""
        ...


@dataclass(frozen=True)
class GaussianExperts:
    """Linear regressions with Gaussian noise: ``coef`` [D, K] and ``variances`` [K]."""

    coef: Array
    variances: Array

    def lines(self, x_ND: Array, /) -> Array:
        """Give the means, [N, K]."""
        return x_ND @ self.coef

    def log_density(self, lines: Array, y: Array, /) -> Array:
        """Give log N(y; mean, variance), [N, K]."""
        square = (y[:, None] - lines) ** 2 / self.variances
        return -0.5 * (np.log(2 * np.pi * self.variances) + square)

    def prepare_step(self, lines: Array, y: Array, shares_NK: Array, /) -> ExpertDerivatives:
        """Give shares, weighted residuals and weighted squared residuals."""
        residual = y[:, None] - lines
        weighed = shares_NK * residual
        return ExpertDerivatives(shares_NK, weighed, (weighed * residual).sum(0))

    def advance(
        self, grams: Array, slopes: Array, squares: Array, options: StepOptions, /
    ) -> GaussianExperts:
        """Solve the weighted least squares; an expert without rows stays."""
        held = np.flatnonzero(grams[:, 0, 0] > 0)
        coef, variances = self.coef.copy(), self.variances.copy()
        grams, slopes = grams[held], slopes.T[held]
        if options.shared:
            own = variances[held, None]
            step = step_together((slopes / own).T, grams / own[:, :, None], coef[:, held],
                                 options.own_ridge, options.shared)  # fmt: skip
            steps, over = options.step_size * step.T, np.zeros(0, np.intp)
        elif options.own_ridge or options.lasso or not len(held):
            steps, over = np.zeros((len(held), len(coef))), range(len(held))
        else:
            steps = solve_stack(grams, slopes)
            far = np.abs(coef.T[held, 1:] + steps[:, 1:]) > options.limit
            over = np.flatnonzero(far.any(1))
        for at in over:
            here = coef[:, held[at]], float(variances[held[at]])
            steps[at] = hold_step(steps[at], grams[at], slopes[at], here, options)
        ahead = (grams @ steps[:, :, None])[:, :, 0] - 2 * slopes
        left = squares[held] + (steps * ahead).sum(1)
        coef[:, held] += steps.T
        mass = grams[:, 0, 0]
        if options.one_spread:
            left, mass = np.full(len(held), left.sum()), mass.sum()
        variances[held] = np.maximum(left / mass, options.floor)
        return GaussianExperts(coef, variances)

    def penalty(self, options: StepOptions, /) -> float:
        """Give half the squares of what slopes exceed their limit by, and their own penalties."""
        if options.lasso:
            return options.weigh_slopes(self.coef)
        beyond = np.maximum(np.abs(self.coef[1:]) - options.limit, 0.0)
        return 0.5 * float((beyond**2).sum()) + options.weigh_slopes(self.coef)

    def pick(self, order: Array, /) -> GaussianExperts:
        """Take experts by index."""
        return GaussianExperts(self.coef[:, order], self.variances[order])

    def mapped(self, matrix_DD: Array, /) -> GaussianExperts:
        """Express the coefficients in other covariates."""
        return replace(self, coef=matrix_DD @ self.coef)

    def size(self) -> int:
        """Count coefficients and variances."""
        return self.coef.size + self.variances.size

    def share_spread(self) -> GaussianExperts:
        """Give all experts the mean variance."""
        return replace(self, variances=np.full_like(self.variances, self.variances.mean()))

    def pack(self) -> Array:
        """Lay coefficients and logarithms of variances out in one vector."""
        return np.concatenate([self.coef.ravel(), np.log(self.variances)])

    def unpack(self, values: Array, floor: float, /) -> GaussianExperts:
        """Give the experts of a vector, with variances near these."""
        coef = values[: self.coef.size].reshape(self.coef.shape)
        variances = follow_logarithms(self.variances, values[self.coef.size :])
        return GaussianExperts(coef, np.maximum(variances, floor))


def follow_logarithms(spreads: Array, logarithms: Array) -> Array:
    """Give spreads by their logarithms, at most e times larger or smaller than others."""
    change = logarithms.reshape(spreads.shape) - np.log(spreads)
    return spreads * np.exp(np.clip(change, -LARGEST_LOG_STEP, LARGEST_LOG_STEP))


def hold_step(
    step: Array, gram: Array, slope: Array, here: tuple[Array, float], options: StepOptions
) -> Array:
    """Give the step to the least squares under penalties, which weigh as much as the noise, [D].

    Args:
        step: to the least squares without ridge and lasso; not looked at where there are some.
        gram: X'WX, [D, D].
        slope: X'W times the residuals where the step starts, [D].
        here: coefficients where it starts, the intercept first, and the variance of the expert.
        options: the penalties.
    """
    coef, variance = here
    if options.own_ridge or options.lasso:
        ridge = make_slope_penalty((len(coef), 1), options.own_ridge * variance)
        lasso = options.lasso * variance
        step = step_with_lasso(slope[:, None], gram, coef[:, None], ridge, lasso)[:, 0]
        gram, slope = gram + np.diag(ridge[:, 0]), slope - ridge[:, 0] * coef
    if options.lasso or np.abs(coef[1:] + step[1:]).max(initial=0.0) <= options.limit:
        return step
    return options.step_size * hold_slopes(gram, slope, coef, variance, options.limit)


def hold_slopes(gram: Array, slope: Array, coef: Array, variance: float, limit: float) -> Array:
    """Give the step to the weighted least squares in which slopes beyond a limit are held, [D].

    Which slopes exceed the limit is found by repeating; nearly always the second time agrees.

    Args:
        gram: X'WX, [D, D].
        slope: X'W times the residuals at ``coef``, [D].
        coef: where the step starts, the intercept first.
        variance: of the expert, against which the prior's spread of 1 is weighed.
        limit: the largest slope that nothing draws back.
    """
    moved, before = coef + solve_symmetric(gram, slope), None
    for _ in range(HOLDINGS):
        over = np.sign(moved) * (np.abs(moved) > limit)
        over[0] = 0.0
        if before is not None and (over == before).all():
            break
        hold, before = variance * np.abs(over), over
        gradient = slope + hold * (over * limit - coef)
        moved = coef + solve_symmetric(gram + np.diag(hold), gradient)
    return moved - coef
