"""Fit from several starts.

Letters: N rows, D columns with the constant, K experts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle

import numpy as np

from moiety.mixtures.em import DEFAULT, Fit, Prior, climb, tally
from moiety.mixtures.experts import blank
from moiety.mixtures.logit import Array
from moiety.mixtures.model import Mixture
from moiety.mixtures.start import features, from_labels, kmeans_labels, slab_labels

STARTS = {
    "mixed": (kmeans_labels, slab_labels),
    "kmeans": (kmeans_labels,),
    "random": (slab_labels,),
}

ROUGH = 1e-6  # the gain per row at which a start that only competes has come far enough
Rows = tuple[Array, Array, Array]
Map = Callable[[Callable[..., Fit], Iterable[Mixture]], Iterable[Fit]]


@dataclass(frozen=True)
class Search:
    """How many starts, how made, how far the first look goes, and when EM stops."""

    num_experts: int
    classes: int = 0
    num_starts: int = 6
    start: str = "mixed"
    looks: int = 15
    kept: int = 3
    tol: float = 1e-8
    max_iter: int = 500
    prior: Prior = DEFAULT


def sample_size(rows: int, parameters: int) -> int:
    """Give the rows on which starts are compared: a sixteenth, or 25 per parameter if more."""
    return min(rows, max(rows // 16, 25 * parameters, 4000))


def sampled(rows: Rows, size: int, rng: np.random.Generator) -> Rows:
    """Draw rows without replacement, or take all."""
    if size >= len(rows[0]):
        return rows
    taken = np.sort(rng.choice(len(rows[0]), size, replace=False))
    return rows[0][taken], rows[1][taken], rows[2][taken]


def draw_starts(rows: Rows, search: Search, rng: np.random.Generator) -> list[Mixture]:
    """Make the mixtures to begin from, each from its own stream."""
    x_ND, y, weights = rows
    zero = blank(x_ND.shape[1], search.num_experts, search.classes)
    joined, makers = features(x_ND, y, search.classes), cycle(STARTS[search.start])
    return [
        from_labels(zero, x_ND, y, weights, make(joined, weights, search.num_experts, own))
        for own, make in zip(rng.spawn(search.num_starts), makers, strict=False)
    ]


def best_start(rows: Rows, starts: Sequence[Mixture], search: Search, each: Map = map) -> Mixture:
    """Run all starts a little, the best ones nearly to the end, and keep the best."""
    sums = partial(tally, blocks=[rows])
    run = partial(climb, sums, prior=search.prior, tol=max(search.tol, ROUGH))
    looked = list(each(partial(run, max_iter=search.looks), starts))
    looked.sort(key=lambda fit: -fit.trace[-1])
    ahead = [fit.mixture for fit in looked[: search.kept]]
    ended = list(each(partial(run, max_iter=search.max_iter), ahead))
    return max(ended, key=lambda fit: fit.trace[-1]).mixture


def fit_rows(rows: Rows, search: Search, rng: np.random.Generator, each: Map = map) -> Fit:
    """Fit standardised rows ``(x_ND, y, weights)`` in memory from several starts."""
    columns = rows[0].shape[1]
    parameters = blank(columns, search.num_experts, search.classes).size()
    parameters += columns * (search.num_experts - 1)
    few = sampled(rows, sample_size(len(rows[0]), parameters), rng)
    start = best_start(few, draw_starts(few, search, rng), search, each)
    return fit_from(rows, start, search)


def fit_from(rows: Rows, start: Mixture, search: Search) -> Fit:
    """Fit from one start to the end."""
    sums = partial(tally, blocks=[rows])
    return climb(sums, start, prior=search.prior, tol=search.tol, max_iter=search.max_iter)
