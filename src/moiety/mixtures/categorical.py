"""Experts for classes: multinomial logits.

Letters: N rows, D columns with the constant, K experts, G classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moiety.mixtures.experts import ExpertDerivatives, StepOptions
from moiety.mixtures.logit import (
    Array,
    assemble_symmetric,
    curvature,
    log_softmax,
    make_slope_penalty,
)
from moiety.mixtures.penalties import step_with_lasso


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

    def share_spread(self) -> CategoricalExperts:
        """Give the experts themselves, which have none."""
        return self

    def pack(self) -> Array:
        """Lay the coefficients out in one vector."""
        return self.coef.ravel()

    def unpack(self, values: Array, floor: float, /) -> CategoricalExperts:
        """Give the experts of a vector; there is no spread."""
        del floor
        return CategoricalExperts(values.reshape(self.coef.shape))
