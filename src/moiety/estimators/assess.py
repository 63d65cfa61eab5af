"""Criteria and standard errors of a reduced mixture, with no row pooled.

Letters: M machines, N rows, K experts, P parameters.

Log-likelihoods, entropies and observed informations at one mixture add over machines, so one more
exchange gives what all rows in one place would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from joblib import delayed

from moiety.estimators.criteria import compute_label_entropy
from moiety.estimators.machines import encode_shard_rows, run_shard_jobs
from moiety.estimators.opening import LazyShard, materialise_shard
from moiety.estimators.shards import Shard
from moiety.estimators.standard_errors import (
    StandardisedMixture,
    derive_errors,
    standardise_with_inverse,
)
from moiety.mixtures.counting import count_free_parameters, find_free_parameters
from moiety.mixtures.em import DEFAULT_PRIOR, Prior, cut_block
from moiety.mixtures.information import observed_information
from moiety.mixtures.learn import standardise_rows
from moiety.mixtures.logit import Array
from moiety.mixtures.model import Mixture, add_constant, count_mixture_parameters, log_density
from moiety.mixtures.pooled import make_scale_at
from moiety.mixtures.worker import compute_weight_factor


@dataclass(frozen=True)
class ShardAssessment:
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


def assess_shard(
    source: Shard | LazyShard, classes: Any, mixture: Mixture, there: StandardisedMixture
) -> ShardAssessment:
    """Sum over one machine's rows, block by block."""
    sums, information = np.zeros(5), 0.0
    for whole in materialise_shard(source).blocks():
        x, y, weights = encode_shard_rows(classes, whole)
        if not len(x):
            continue
        rows = (add_constant(x), y, weights)
        for block in cut_block(rows):
            value = block[2] @ log_density(mixture, block[0], block[1])
            soft, hard = (
                compute_label_entropy(mixture, block, hard=hard) for hard in (False, True)
            )
            sums += [len(block[0]), block[2].sum(), value, soft, hard]
        ready = standardise_rows(there.scale, (x, y, weights))
        information = information + observed_information(there.mixture, [ready])
    return ShardAssessment(*sums.tolist(), information=np.asarray(information))


def assess_shards(
    opened: Sequence[Shard | LazyShard],
    classes: Any,
    mixture: Mixture,
    centre: tuple[Array, Array],
    n_jobs: int | None,
    prior: Prior = DEFAULT_PRIOR,
) -> Assessment:
    """Ask all machines, and add; ``centre`` is of covariates, means and spreads."""
    there = standardise_with_inverse(mixture, centre[0], make_scale_at(mixture, *centre))
    ask = partial(assess_shard, classes=classes, mixture=mixture, there=there)
    parts: list[ShardAssessment] = run_shard_jobs(n_jobs, (delayed(ask)(shard) for shard in opened))
    weight = sum(part.weight for part in parts)
    factor = compute_weight_factor(sum(part.count for part in parts), weight)
    information = factor * np.sum([part.information for part in parts], 0)
    inside = replace(prior, free=prior.free.express(there.scale))
    free = find_free_parameters(there.mixture, inside)
    twins = np.where(free, np.arange(len(free)), -1)
    return Assessment(
        factor * sum(part.log_likelihood for part in parts),
        factor * weight,
        count_free_parameters(mixture, prior),
        factor * sum(part.soft_entropy for part in parts),
        factor * sum(part.hard_entropy for part in parts),
        derive_errors(there, information, twins=twins),
        sum(part.sent_bytes for part in parts),
        8 * count_mixture_parameters(mixture) * len(parts),
    )
