"""Criteria and standard errors of a reduced mixture, with no row pooled.

Letters: M machines, N rows, K experts, P parameters.

Log-likelihoods, entropies and observed informations at one mixture add over machines, so one more
exchange gives what all rows in one place would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from joblib import delayed

from moiety.estimators.criteria import entropy
from moiety.estimators.errors import Placed, errors_from, placed
from moiety.estimators.exchange import side_by_side
from moiety.estimators.opening import Lazy, present
from moiety.estimators.server import centre_of, common_scale
from moiety.estimators.shards import Shard, lift
from moiety.estimators.workers import encoded
from moiety.mixtures.em import pieces
from moiety.mixtures.information import observed_information
from moiety.mixtures.learn import ready_rows
from moiety.mixtures.logit import Array
from moiety.mixtures.model import Mixture, design, log_density, size
from moiety.mixtures.scene import Support


@dataclass(frozen=True)
class Part:
    """What one machine says of a mixture: sums over its rows, weighed as they came."""

    count: float
    weight: float
    log_likelihood: float
    soft_entropy: float
    hard_entropy: float
    information: Array

    @property
    def sent_bytes(self) -> int:
        """Count the bytes, those of the symmetric matrix once."""
        side = len(self.information)
        return 8 * (5 + side * (side + 1) // 2)


@dataclass(frozen=True)
class Assessment:
    """What all machines say of a mixture; lower criteria are better.

    ``standard_errors`` are as those of an estimator: ``gate``, ``experts`` and, for regressors,
    ``log_variances``.
    """

    log_likelihood: float
    rows: float
    parameters: int
    soft_entropy: float
    hard_entropy: float
    standard_errors: dict[str, Array]
    up_bytes: int
    down_bytes: int

    @property
    def bic(self) -> float:
        """Give -2 log-likelihood + parameters * log(rows)."""
        return float(-2 * self.log_likelihood + self.parameters * np.log(self.rows))

    @property
    def aic(self) -> float:
        """Give -2 log-likelihood + 2 * parameters."""
        return -2 * self.log_likelihood + 2 * self.parameters

    @property
    def icl(self) -> float:
        """Give BIC plus twice the entropy of the likeliest labels."""
        return self.bic + 2 * self.hard_entropy


def assess_shard(source: Shard | Lazy, classes: Any, mixture: Mixture, there: Placed) -> Part:
    """Sum over one machine's rows, block by block."""
    sums, information = np.zeros(5), 0.0
    for whole in present(source).blocks():
        x, y, weights = encoded(classes, whole)
        if not len(x):
            continue
        rows = (design(x), y, weights)
        for block in pieces(rows):
            value = block[2] @ log_density(mixture, block[0], block[1])
            soft, hard = (entropy(mixture, block, hard=hard) for hard in (False, True))
            sums += [len(block[0]), block[2].sum(), value, soft, hard]
        ready = ready_rows(there.scale, (x, y, weights))
        information = information + observed_information(there.mixture, [ready])
    return Part(*sums.tolist(), information=np.asarray(information))


def assessed(
    opened: Sequence[Shard | Lazy],
    classes: Any,
    mixture: Mixture,
    support: Support,
    n_jobs: int | None,
) -> Assessment:
    """Ask all machines, and add."""
    there = placed(mixture, centre_of(support)[0], common_scale(mixture, support))
    ask = partial(assess_shard, classes=classes, mixture=mixture, there=there)
    parts: list[Part] = side_by_side(n_jobs, (delayed(ask)(shard) for shard in opened))
    weight = sum(part.weight for part in parts)
    factor = lift(sum(part.count for part in parts), weight)
    information = factor * np.sum([part.information for part in parts], 0)
    return Assessment(
        factor * sum(part.log_likelihood for part in parts),
        factor * weight,
        size(mixture),
        factor * sum(part.soft_entropy for part in parts),
        factor * sum(part.hard_entropy for part in parts),
        errors_from(there, information),
        sum(part.sent_bytes for part in parts),
        8 * size(mixture) * len(parts),
    )
