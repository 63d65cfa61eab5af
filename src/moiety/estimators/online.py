"""Learning from a stream: one M-step per chunk, with the curvature of all chunks so far."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from moiety.mixtures.em import Prior, Sums, add_two_sums, make_m_step, sum_rows
from moiety.mixtures.experts import GaussianExperts
from moiety.mixtures.fit import RowArrays
from moiety.mixtures.learn import LearnedMixture, standardise_rows
from moiety.mixtures.model import Mixture, sort_experts
from moiety.mixtures.scale import StandardScale, restore_units
from moiety.mixtures.worker import compute_weight_factor

PENALTIES = ("ridge", "own_ridge", "lasso", "gate_lasso")
ROWS_PER_PARAMETER = 10  # rows per parameter at which a stream no longer holds its rows


@dataclass(frozen=True)
class WaitingRows:
    """All rows so far, of too few to settle the experts and the units; weights as they came."""

    rows: RowArrays


@dataclass(frozen=True)
class OnlineFit:
    """A mixture in the first rows' standardised units, and the sums that brought it there.

    The sums are of weights as they came, so that all chunks count alike; ``count`` is the number of
    rows.
    """

    mixture: Mixture
    sums: Sums
    scale: StandardScale
    count: float

    @property
    def rows(self) -> float:
        """Give the rows that the weights stand for, as a fit to all of them would count them."""
        weight = float(self.sums["rows"])
        return weight * compute_weight_factor(self.count, weight)


def begin_online_fit(learned: LearnedMixture, count: float, factor: float) -> OnlineFit:
    """Begin with the first rows' fit, for which their weights were multiplied by a factor."""
    sums = {name: value / factor for name, value in learned.fit.sums.items()}
    return OnlineFit(learned.fit.mixture, sums, learned.scale, count)


def append_waiting_rows(waiting: WaitingRows | None, rows: RowArrays) -> RowArrays:
    """Put the rows of a chunk after those that wait."""
    if waiting is None:
        return rows
    x, y, weights = (np.concatenate(pair) for pair in zip(waiting.rows, rows, strict=True))
    return x, y, weights


def update_online_fit(stream: OnlineFit, rows: RowArrays, prior: Prior) -> OnlineFit:
    """Take one step on a chunk; for one Gaussian expert it is recursive least squares, exactly.

    The past has no slope where it was left, so only the chunk pulls; the past's Gram matrices hold.
    A step that makes the chunk itself less likely is halved.
    """
    ready = [standardise_rows(stream.scale, rows)]
    fresh = sum_rows(stream.mixture, ready)
    both = dict(add_two_sums(stream.sums, fresh))
    both["slopes"] = fresh["slopes"]
    share = float(fresh["rows"] / both["rows"])
    weights = {name: share * getattr(prior, name) for name in PENALTIES}
    less = replace(prior, free=prior.free.express(stream.scale), **weights)
    moved = stream.mixture
    for halving in range(10):
        moved = make_m_step(stream.mixture, both, less, step_size=0.5**halving)
        if float(sum_rows(moved, ready)["loglik"]) >= float(fresh["loglik"]):
            break
    if isinstance(moved.experts, GaussianExperts):
        both["squares"] = moved.experts.variances * both["mass"]
    both["slopes"] = np.zeros_like(fresh["slopes"])
    return OnlineFit(moved, both, stream.scale, stream.count + len(rows[0]))


def express_in_row_units(stream: OnlineFit) -> Mixture:
    """Express the mixture in the rows' units."""
    return sort_experts(restore_units(stream.mixture, stream.scale))
