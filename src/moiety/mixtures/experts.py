"""The two families of experts.

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
    assemble_symmetric,
    curvature,
    log_softmax,
    make_slope_penalty,
    solve_stack,
    solve_symmetric,
)
from moiety.mixtures.penalties import step_with_lasso

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
    place.
    """

    ridge: float
    floor: float
    step_size: float = 1.0
    limit: float = np.inf
    own_ridge: float = 0.0
    lasso: float = 0.0

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
        if options.own_ridge or options.lasso or not len(held):
            plain = np.zeros((len(held), len(coef)))
        else:
            plain = solve_stack(grams[held], slopes.T[held])
        for k, step in zip(held, plain, strict=True):
            step = hold_step(step, grams[k], slopes[:, k], (coef[:, k], variances[k]), options)
            left = squares[k] - 2 * step @ slopes[:, k] + step @ grams[k] @ step
            coef[:, k] += step
            variances[k] = max(left / grams[k, 0, 0], options.floor)
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


@dataclass(frozen=True)
class CategoricalExperts:
    """Multinomial logits: ``coef`` [D, K, G], the last class 0; y holds class indices."""

    coef: Array

    def lines(self, x_ND: Array, /) -> Array:
        """Give the log probabilities, [N, K, G]."""
        columns, experts, classes = self.coef.shape
        scores = x_ND @ self.coef.reshape(columns, -1)
        return log_softmax(scores.reshape(-1, experts, classes))

    def log_density(self, lines: Array, y: Array, /) -> Array:
        """Give the log probability of the class seen, [N, K]."""
        return lines[np.arange(len(y)), :, y.astype(np.intp)]

    def prepare_step(self, lines: Array, y: Array, shares_NK: Array, /) -> ExpertDerivatives:
        """Give shares times curvature and times residuals, expert by expert."""
        free = lines.shape[-1] - 1
        probs = np.exp(lines[..., :-1])
        hit = y.astype(np.intp)[:, None] == np.arange(free)
        slopes = shares_NK[..., None] * (hit[:, None, :] - probs)
        curves = shares_NK[..., None] * curvature(probs)
        rows = len(y)
        return ExpertDerivatives(
            curves.reshape(rows, -1), slopes.reshape(rows, -1), np.zeros(lines.shape[1])
        )

    def advance(
        self, grams: Array, slopes: Array, squares: Array, options: StepOptions, /
    ) -> CategoricalExperts:
        """Make one penalised Newton step per expert; squares are not needed."""
        del squares
        columns, experts, classes = self.coef.shape
        free, coef = classes - 1, self.coef.copy()
        by_expert = grams.reshape(experts, -1, columns, columns)
        slopes = slopes.reshape(columns, experts, free)
        penalty = make_slope_penalty((columns, free), options.own_ridge) + options.ridge
        for k in range(experts):
            information = assemble_symmetric(by_expert[k], free)
            here = coef[:, k, :-1]
            step = step_with_lasso(slopes[:, k], information, here, penalty, options.lasso)
            coef[:, k, :-1] += options.step_size * step
        return CategoricalExperts(coef)

    def penalty(self, options: StepOptions, /) -> float:
        """Give half the ridge times the squares, intercepts included, and the own penalties."""
        ridge = 0.5 * options.ridge * float((self.coef**2).sum())
        return ridge + options.weigh_slopes(self.coef)

    def pick(self, order: Array, /) -> CategoricalExperts:
        """Take experts by index."""
        return CategoricalExperts(self.coef[:, order])

    def mapped(self, matrix_DD: Array, /) -> CategoricalExperts:
        """Express the coefficients in other covariates."""
        return CategoricalExperts(np.tensordot(matrix_DD, self.coef, 1))

    def size(self) -> int:
        """Count the coefficients of all classes but the last."""
        return self.coef[..., :-1].size


def make_blank_experts(
    columns: int, experts: int, classes: int = 0
) -> GaussianExperts | CategoricalExperts:
    """Make experts that know nothing: Gaussian, or categorical where there are classes."""
    if classes:
        return CategoricalExperts(np.zeros((columns, experts, classes)))
    return GaussianExperts(np.zeros((columns, experts)), np.ones(experts))
