"""What it costs to carry one negative binomial expert to another.

Letters: S support rows, D columns with the constant, L local experts, K reduced experts, G points
of the mean, J points of the count.

All of the divergence has a formula but the mean of log(gamma(y + size) / gamma(size)). It is

    sum over j >= 0 of P(y > j) log(size + j),

where P is the local expert's and depends on x through its mean alone. So these chances are
tabulated once per local expert at a few means, between which a polynomial in the log mean is as
good as exact, and at counts that stand for blocks where these are large.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from moiety.mixtures.experts import StepOptions
from moiety.mixtures.linked import LinkedExperts
from moiety.mixtures.logit import Array, weighted_grams
from moiety.mixtures.quadrature import climb_steps

MEANS = 24  # points of the log mean at which chances are tabulated
SINGLE_COUNTS, WIDENING = 64, 1.05  # counts that stand for themselves; growth of later blocks
FARTHEST = 1e-9  # a chance beyond which counts are left out
NARROWEST = 0.1  # the least range of log means


@dataclass(frozen=True)
class SurvivalTable:
    """Chances to exceed counts: ``basis`` [S, L, G] of rows, ``chances`` [L, G, J] times blocks."""

    counts: Array
    chances: Array
    basis: Array

    def expect(self, values_J: Array) -> Array:
        """Give the means of sums of values over the counts below y, [S, L]."""
        return np.einsum("slg,lg->sl", self.basis, self.chances @ values_J)

    def pool(self, mass_SL: Array) -> Array:
        """Give the chances summed under masses, [J]."""
        weights = np.einsum("sl,slg->lg", mass_SL, self.basis)
        return np.einsum("lg,lgj->j", weights, self.chances)


def tabulate_survival(local: LinkedExperts, lines_SL: Array) -> SurvivalTable:
    """Tabulate the chances of local experts."""
    low, high = lines_SL.min(0), lines_SL.max(0)
    half = 0.5 * np.maximum(high - low, NARROWEST)
    nodes = np.cos(np.pi * (np.arange(MEANS) + 0.5) / MEANS)
    means_LG = np.exp(0.5 * (low + high)[:, None] + half[:, None] * nodes)
    counts, blocks = lay_out_counts(local, means_LG)
    size = local.spreads[0][:, None, None]
    chances = find_chance_beyond(counts, means_LG[:, :, None], size) * blocks
    vander = np.polynomial.chebyshev.chebvander
    inverse = np.linalg.inv(vander(nodes, MEANS - 1))
    basis = vander((lines_SL - 0.5 * (low + high)) / half, MEANS - 1) @ inverse
    return SurvivalTable(counts, chances, basis)


def find_chance_beyond(counts: Array, means: Array, size: Array) -> Array:
    """Give the chance of more than a count, which need not be whole."""
    from scipy.special import betainc  # scipy comes with the extra of the estimators

    return betainc(counts + 1, size, means / (size + means))


def lay_out_counts(local: LinkedExperts, means_LG: Array) -> tuple[Array, Array]:
    """Give counts up to where no expert has a chance beyond, and how many each stands for, [J]."""
    size, last = local.spreads[0], 2.0 * SINGLE_COUNTS
    while (find_chance_beyond(np.array(last), means_LG.max(1), size) > FARTHEST).any():
        last *= 2
    edges = [float(SINGLE_COUNTS)]
    while edges[-1] < last:
        edges.append(np.ceil(edges[-1] * WIDENING))
    lower, upper = np.array(edges[:-1]), np.array(edges[1:])
    counts = np.concatenate([np.arange(SINGLE_COUNTS), 0.5 * (lower + upper - 1)])
    return counts, np.concatenate([np.ones(SINGLE_COUNTS), upper - lower])


@dataclass(frozen=True)
class NegativeBinomialKL:
    """KL from local to reduced negative binomials."""

    def between(self, x_SD: Array, local: LinkedExperts, reduced: LinkedExperts, /) -> Array:
        """Give the divergences, [K, S, L]."""
        lines, others = local.lines(x_SD), reduced.lines(x_SD)
        table, means = tabulate_survival(local, lines), np.exp(lines)
        own = np.stack(
            [table.expect(np.log(table.counts + size))[:, at]
             for at, size in enumerate(local.spreads[0])], 1
        )  # fmt: skip
        own = own + weigh_lines(lines, means, local.spreads[0])
        found = [
            own - table.expect(np.log(table.counts + size))
            - weigh_lines(others[:, [k]], means, size)
            for k, size in enumerate(reduced.spreads[0])
        ]  # fmt: skip
        return np.stack(found)

    def update(
        self, x_SD: Array, plan_KSL: Array, local: LinkedExperts, reduced: LinkedExperts, /
    ) -> LinkedExperts:
        """Fit each reduced expert to what is carried to it, line and size."""
        lines = local.lines(x_SD)
        table, means = tabulate_survival(local, lines), np.exp(lines)
        coef, spreads = reduced.coef.copy(), reduced.spreads.copy()
        for k in np.flatnonzero(plan_KSL.sum((1, 2)) > 0):
            plan = plan_KSL[k]
            carried = CarriedCounts(
                x_SD, plan.sum(1), (plan * means).sum(1), table.counts, table.pool(plan)
            )
            fitted = fit_carried(carried, reduced.pick(np.array([k])))
            coef[:, k], spreads[:, k] = fitted.coef[:, 0], fitted.spreads[:, 0]
        return replace(reduced, coef=coef, spreads=spreads)


def weigh_lines(lines: Array, means: Array, size: Array) -> Array:
    """Give the mean log density but for its gammas, for counts of such means."""
    whole = np.logaddexp(lines, np.log(size))
    return size * (np.log(size) - whole) + means * (lines - whole)


@dataclass(frozen=True)
class CarriedCounts:
    """What is carried to one expert: mass and mean mass [S], and chances beyond counts [J]."""

    x: Array
    mass: Array
    means: Array
    counts: Array
    chances: Array

    def value(self, one: LinkedExperts) -> float:
        """Give the mean log density, but for what no expert changes."""
        line, size = one.lines(self.x)[:, 0], one.spreads[0, 0]
        whole = np.logaddexp(line, np.log(size))
        rest = self.mass @ (size * (np.log(size) - whole)) + self.means @ (line - whole)
        return float(self.chances @ np.log(self.counts + size) + rest)

    def move(self, one: LinkedExperts, step_size: float) -> LinkedExperts:
        """Make a Newton step of the line and of the log size, or a part of it."""
        size = one.spreads[0, 0]
        rates = np.exp(one.lines(self.x)[:, 0])
        damped, gap = size / (size + rates), self.means - self.mass * rates
        gram = weighted_grams(self.x, (self.mass * rates * damped)[:, None])
        slope = self.x.T @ (gap * damped)[:, None]
        whole = size + rates
        first = self.chances @ (1 / (self.counts + size)) - self.mass @ np.log1p(rates / size)
        first -= (gap / whole).sum()
        second = -self.chances @ (1 / (self.counts + size) ** 2)
        second += self.mass @ (rates / (size * whole)) + (gap / whole**2).sum()
        sums = np.array([[0.0], [size * first], [-(size**2 * second + size * first)]])
        return one.advance(gram, slope, sums, StepOptions(0.0, 0.0, step_size))


def fit_carried(carried: CarriedCounts, start: LinkedExperts) -> LinkedExperts:
    """Maximise the mean log density of what is carried."""
    return climb_steps(start, carried.value, carried.move)
