"""Learning from a stream: one M-step per chunk, with the curvature of all chunks so far."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moiety.estimators.shards import lift
from moiety.mixtures.em import Prior, Sums, add, advance, tally
from moiety.mixtures.experts import Gaussian
from moiety.mixtures.fit import Rows
from moiety.mixtures.learn import Learned, ready_rows
from moiety.mixtures.model import Mixture, canonical
from moiety.mixtures.scale import Scale, unscaled

ENOUGH = 10  # rows per parameter at which a stream no longer holds its rows


@dataclass(frozen=True)
class Waiting:
    """All rows so far, of too few to settle the experts and the units; weights as they came."""

    rows: Rows


@dataclass(frozen=True)
class Stream:
    """A mixture in the first rows' standardised units, and the sums that brought it there.

    The sums are of weights as they came, so that all chunks count alike; ``count`` is the number of
    rows.
    """

    mixture: Mixture
    sums: Sums
    scale: Scale
    count: float

    @property
    def rows(self) -> float:
        """Give the rows that the weights stand for, as a fit to all of them would count them."""
        weight = float(self.sums["rows"])
        return weight * lift(self.count, weight)


def begun(learned: Learned, count: float, factor: float) -> Stream:
    """Begin with the first rows' fit, for which their weights were multiplied by a factor."""
    sums = {name: value / factor for name, value in learned.fit.sums.items()}
    return Stream(learned.fit.mixture, sums, learned.scale, count)


def gathered(waiting: Waiting | None, rows: Rows) -> Rows:
    """Put the rows of a chunk after those that wait."""
    if waiting is None:
        return rows
    x, y, weights = (np.concatenate(pair) for pair in zip(waiting.rows, rows, strict=True))
    return x, y, weights


def fed(stream: Stream, rows: Rows, prior: Prior) -> Stream:
    """Take one step on a chunk; for one Gaussian expert it is recursive least squares, exactly.

    The past has no slope where it was left, so only the chunk pulls; the past's Gram matrices hold.
    A step that makes the chunk itself less likely is halved.
    """
    ready = [ready_rows(stream.scale, rows)]
    fresh = tally(stream.mixture, ready)
    both = dict(add(stream.sums, fresh))
    both["slopes"] = fresh["slopes"]
    share = float(fresh["rows"] / both["rows"])
    less = Prior(prior.ridge * share, prior.floor)
    moved = stream.mixture
    for halving in range(10):
        moved = advance(stream.mixture, both, less, pace=0.5**halving)
        if float(tally(moved, ready)["loglik"]) >= float(fresh["loglik"]):
            break
    if isinstance(moved.experts, Gaussian):
        both["squares"] = moved.experts.variances * both["mass"]
    both["slopes"] = np.zeros_like(fresh["slopes"])
    return Stream(moved, both, stream.scale, stream.count + len(rows[0]))


def shown(stream: Stream) -> Mixture:
    """Express the mixture in the rows' units."""
    return canonical(unscaled(stream.mixture, stream.scale))
