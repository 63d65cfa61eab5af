"""Learning from a stream: one M-step per chunk, with the curvature of all chunks so far."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moiety.ops.mixture.em import Prior, Sums, add, advance, tally
from moiety.ops.mixture.experts import Gaussian
from moiety.ops.mixture.fit import Rows
from moiety.ops.mixture.learn import Learned, ready_rows
from moiety.ops.mixture.model import Mixture, canonical
from moiety.ops.mixture.scale import Scale, unscaled


@dataclass(frozen=True)
class Stream:
    """A mixture in the first chunk's standardised units, and the sums that brought it there."""

    mixture: Mixture
    sums: Sums
    scale: Scale


def begun(learned: Learned) -> Stream:
    """Begin with the first chunk's fit."""
    return Stream(learned.fit.mixture, learned.fit.sums, learned.scale)


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
    return Stream(moved, both, stream.scale)


def shown(stream: Stream) -> Mixture:
    """Express the mixture in the rows' units."""
    return canonical(unscaled(stream.mixture, stream.scale))
