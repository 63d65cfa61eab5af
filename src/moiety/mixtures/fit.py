"""Fit from several starts.

Letters: N rows, D columns with the constant, K experts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle

import numpy as np

from moiety.mixtures.categorical import CategoricalExperts
from moiety.mixtures.climb import Fit, run_em
from moiety.mixtures.degenerate import find_floored
from moiety.mixtures.em import DEFAULT_PRIOR, Prior, sum_rows
from moiety.mixtures.em_starts import (
    join_start_features,
    label_by_kmeans,
    label_by_slabs,
    make_labelled_start,
    standardise_linked,
)
from moiety.mixtures.experts import GaussianExperts
from moiety.mixtures.law import Law
from moiety.mixtures.linked import LinkedExperts, make_blank_linked
from moiety.mixtures.logit import Array
from moiety.mixtures.model import Mixture
from moiety.mixtures.noise import Noise

STARTS = {
    "mixed": (label_by_kmeans, label_by_slabs),
    "kmeans": (label_by_kmeans,),
    "random": (label_by_slabs,),
}

ALIKE = 1e-5  # of log-likelihood per row, within which two climbs are as good
ROUGH_TOL = 1e-6  # the gain per row at which a start that only competes has come far enough
RowArrays = tuple[Array, Array, Array]
ExpertsOfAnyKind = GaussianExperts | CategoricalExperts | LinkedExperts
MapStarts = Callable[[Callable[..., Fit], Iterable[Mixture]], Iterable[Fit]]


@dataclass(frozen=True)
class Search:
    """How many starts, how made, how far the first look goes, and when EM stops.

    Responses are classes where there are ``classes``, or follow a law, or else a normal one. Some
    may follow no expert where there is ``noise``.
    """

    num_experts: int
    classes: int = 0
    num_starts: int = 10
    start: str = "mixed"
    looks: int = 10
    kept: int = 3
    tol: float = 1e-8
    max_iter: int = 500
    prior: Prior = DEFAULT_PRIOR
    law: Law | None = None
    noise: Noise | None = None

    @property
    def fixed_units(self) -> bool:
        """Tell whether responses stay as they are, as classes and counts do."""
        return self.classes > 0 or (self.law is not None and not self.law.moves)

    def make_blank(self, columns: int) -> ExpertsOfAnyKind:
        """Make experts that know nothing."""
        zero = np.zeros((columns, self.num_experts))
        if self.law is not None:
            blank = make_blank_linked(self.law, columns, self.num_experts)
        elif self.classes:
            blank = CategoricalExperts(np.zeros((columns, self.num_experts, self.classes)))
        else:
            blank = GaussianExperts(zero, np.ones(self.num_experts))
        return self.admit(Mixture(zero, blank)).experts

    def admit(self, start: Mixture) -> Mixture:
        """Let a start keep to the columns in use, and have noise where it is asked for."""
        noise = None if self.noise is None else start.noise or self.noise
        return replace(self.prior.free.hold(start), noise=noise)


def choose_sample_size(rows: int, parameters: int) -> int:
    """Give the rows on which starts are compared: a sixteenth, or 25 per parameter if more."""
    return min(rows, max(rows // 16, 25 * parameters, 4000))


def sample_start_rows(rows: RowArrays, size: int, rng: np.random.Generator) -> RowArrays:
    """Draw rows without replacement, or take all."""
    if size >= len(rows[0]):
        return rows
    taken = np.sort(rng.choice(len(rows[0]), size, replace=False))
    return rows[0][taken], rows[1][taken], rows[2][taken]


def draw_starts(rows: RowArrays, search: Search, rng: np.random.Generator) -> list[Mixture]:
    """Make the mixtures to begin from, each from its own stream."""
    x_ND, y, weights = rows
    zero = search.make_blank(x_ND.shape[1])
    shown = y if search.law is None else standardise_linked(search.law.link(y), weights)
    joined = join_start_features(x_ND, shown, search.classes)
    makers = cycle(STARTS[search.start])
    labels = [
        make(joined, weights, search.num_experts, own)
        for own, make in zip(rng.spawn(search.num_starts), makers, strict=False)
    ]
    used = search.prior.free.find_expert_rows(x_ND.shape[1])
    made = (make_labelled_start(zero, rows, one, used) for one in labels)
    return [search.admit(start) for start in made]


@dataclass(frozen=True)
class ChosenStart:
    """The mixture that won the competition of starts, and the EM steps that led to it."""

    mixture: Mixture
    steps: int


def choose_start(
    rows: RowArrays, starts: Sequence[Mixture], search: Search, each: MapStarts = map
) -> ChosenStart:
    """Run all starts a little, the best ones nearly to the end, and keep the best.

    A fit that rests on the variance floor wins only where all starts end so: its likelihood says
    nothing.
    """
    run = partial(
        run_em,
        partial(sum_rows, blocks=[rows]),
        prior=search.prior,
        tol=max(search.tol, ROUGH_TOL),
    )
    looks = min(search.looks, search.max_iter)
    looked = list(each(partial(run, max_iter=looks), starts))
    looked = [looked[at] for at in rank_fits(looked)]
    ended: list[Fit] = []
    for ahead in (looked[: search.kept], looked[search.kept :]):
        begins = [fit.mixture for fit in ahead]
        done = each(partial(run, max_iter=search.max_iter), begins)
        ended += [replace(fit, before=first.steps) for fit, first in zip(done, ahead, strict=True)]
        sound = [
            fit for fit in ended if not find_floored(fit.mixture.experts, search.prior.floor).any()
        ]
        if sound:
            break
    able = sound or ended
    best = able[rank_fits(able)[0]]
    return ChosenStart(best.mixture, best.steps)


def rank_fits(fits: Sequence[Fit]) -> list[int]:
    """Give the places of fits from the likeliest down; of those that are as good the first leads.

    Which of two climbs to one maximum ends a hair higher is decided by rounding, and they stop at
    different points around it.
    """
    values = np.array([fit.trace[-1] for fit in fits])
    near = ALIKE * float(fits[0].sums["rows"])
    left, ranked = list(range(len(fits))), []
    while left:
        top = values[left].max()
        ranked.append(next(at for at in left if values[at] >= top - near))
        left.remove(ranked[-1])
    return ranked


def fit_rows(
    rows: RowArrays, search: Search, rng: np.random.Generator, each: MapStarts = map
) -> Fit:
    """Fit standardised rows ``(x_ND, y, weights)`` in memory from several starts."""
    columns = rows[0].shape[1]
    parameters = search.make_blank(columns).size()
    parameters += columns * (search.num_experts - 1)
    few = sample_start_rows(rows, choose_sample_size(len(rows[0]), parameters), rng)
    chosen = choose_start(few, draw_starts(few, search, rng), search, each)
    if len(few[0]) < len(rows[0]):
        return fit_from_start(rows, chosen.mixture, search)
    return replace(fit_from_start(rows, chosen.mixture, search), before=chosen.steps)


def fit_from_start(rows: RowArrays, start: Mixture, search: Search) -> Fit:
    """Fit from one start to the end."""
    sums = partial(sum_rows, blocks=[rows])
    return run_em(sums, start, prior=search.prior, tol=search.tol, max_iter=search.max_iter)
