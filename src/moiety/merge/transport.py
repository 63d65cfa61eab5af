"""Many mixtures to one, by transport of their experts. It looks at individuals: no fold.

Letters: S support rows, M workers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from moiety.core.fold import Precision
from moiety.core.protocols import Merged
from moiety.core.state import Reply
from moiety.core.store import Store
from moiety.core.types import Params
from moiety.merge.gather import Gathering
from moiety.mixtures.inputs import LocalFit, Support
from moiety.mixtures.logit import Array, unpack_symmetric
from moiety.mixtures.model import Mixture
from moiety.mixtures.reduce import ReductionConfig, ReductionResult, reduce_fits
from moiety.mixtures.worker import compute_weight_factor
from moiety.models.mixture import WHOLE, MixtureForm


def open_first_stream() -> np.random.Generator:
    """Open the stream of the seed 0."""
    return np.random.default_rng(0)


@dataclass(frozen=True)
class Transport:
    """Reduce replies, in the order of their workers, to the mixture nearest to their average.

    One mixture, or the same one from everybody, is its own reduction. The replies' scalar
    precisions are their weights; their answers bring ``support`` [S, d] and ``information``, and
    where rows have weights their number, their sum and the log-likelihood.

    Args:
        recipe: experts, cost, gate, starts, screening.
        draw: opens the stream of the k-means starts.
        form: how mixtures lie in tensors.
        told: give the judgement of the fits beside the mixture, see ``write_judgement``.
        support: covariates on which experts are compared, where workers send none.

    References:
        Chamroukhi and Pham, arXiv:2312.09877.
    """

    recipe: ReductionConfig
    draw: Callable[[], np.random.Generator] = open_first_stream
    form: MixtureForm = WHOLE
    told: bool = False
    support: Support | None = None

    def weigh(self, reply: Reply, /) -> Precision:
        return reply.precision

    def begin(self, store: Store, /) -> Gathering:
        return Gathering(store, self.merge_all)

    def merge_all(self, store: Store, replies: Sequence[Reply]) -> Merged:
        """Reduce mixtures that differ; alike ones are the mixture."""
        if not replies:
            return Merged(*store.close())
        first = replies[0].piece
        alike = all(is_same_piece(reply.piece, first) for reply in replies)
        params = first if alike and not self.told else self.reduce(replies)
        held = {name: torch.ones((1,) * t.ndim, dtype=torch.bool) for name, t in params.items()}
        return Merged(params, {name: mask.to(params[name].device) for name, mask in held.items()})

    def reduce(self, replies: Sequence[Reply]) -> Params:
        """Reduce mixtures that differ."""
        sent = read_fits(replies, self.form, self.support)
        done = reduce_fits(sent.fits, sent.support, self.recipe, self.draw())
        params = self.form.write(done.mixture, replies[0].piece)
        return {**params, **write_judgement(done)} if self.told else params


@dataclass(frozen=True)
class SentFits:
    """What workers sent, on one scale of weights.

    Args:
        fits: of every worker.
        support: rows of all.
        factor: what weights as they came are multiplied by, so that they count at least the rows.
        log_likelihoods: of every fit at its own rows, [M]; NaN where it was not sent.
    """

    fits: tuple[LocalFit, ...]
    support: Support
    factor: float
    log_likelihoods: Array


def read_fits(
    replies: Sequence[Reply], form: MixtureForm = WHOLE, support: Support | None = None
) -> SentFits:
    """Read off replies what the reduction needs of them.

    Each worker lifted its own weights for its fit; what it sent is put on the common scale.
    """
    rows = [reply.precision.scalar for reply in replies]
    count, weight = ([_find_number(r, name, r.precision.scalar) for r in replies]
                     for name in ("count", "weight"))  # fmt: skip
    factor = compute_weight_factor(sum(count), sum(weight))
    ratios = [factor * one / own for one, own in zip(weight, rows, strict=True)]
    fits = tuple(
        weigh_fit(read_fit(one, form), ratio) for one, ratio in zip(replies, ratios, strict=True)
    )
    values = [ratio * _find_number(one, "loglik", np.nan)
              for one, ratio in zip(replies, ratios, strict=True)]  # fmt: skip
    if support is None:
        support = gather_support(replies, [fit.rows for fit in fits])
    return SentFits(fits, support, factor, np.array(values))


def read_fit(reply: Reply, form: MixtureForm) -> LocalFit:
    """Read off a reply its fit, as its worker weighed it."""
    known = reply.answer.get("information")  # one expert has no gate to know of
    information = unpack_symmetric(np.zeros(0) if known is None else detach_array(known))
    return LocalFit(form.read(reply.piece), reply.precision.scalar, information)


def weigh_fit(fit: LocalFit, ratio: float) -> LocalFit:
    """Give the fit to weights multiplied by a ratio."""
    information = None if fit.information is None else ratio * fit.information
    return replace(fit, rows=ratio * fit.rows, information=information)


def gather_support(replies: Sequence[Reply], counts: Sequence[float]) -> Support:
    """Pool support rows; each stands for as many rows as its worker has per row sent."""
    rows = [detach_array(reply.answer["support"]) for reply in replies]
    shares = [
        detach_array(reply.answer["weights"]) if "weights" in reply.answer else np.ones(len(x))
        for x, reply in zip(rows, replies, strict=True)
    ]
    weights = [one / one.sum() * count for one, count in zip(shares, counts, strict=True)]
    labels = [detach_array(reply.answer["labels"]) for reply in replies if "labels" in reply.answer]
    y = np.concatenate(labels) if len(labels) == len(rows) else None
    owner = np.repeat(np.arange(len(rows)), [len(x) for x in rows])
    return Support(np.concatenate(rows), np.concatenate(weights), y, owner)


def write_judgement(done: ReductionResult) -> Params:
    """Lay out as tensors what a reduction says beside its mixture."""
    found = {
        "kept": done.kept, "objective": np.array(done.trace), "divergence": done.divergence,
        "misfit": done.misfit, "strain": np.array(done.strain),
    }  # fmt: skip
    return {name: torch.from_numpy(values) for name, values in found.items()}


def read_reduction(mixture: Mixture, told: Params) -> ReductionResult:
    """Read a reduction off its mixture and what was written beside it."""
    found = {name: tensor.numpy() for name, tensor in told.items()}
    trace = tuple(found["objective"].tolist())
    judged = found["divergence"], found["kept"], found["misfit"]
    return ReductionResult(mixture, trace, *judged, float(found["strain"]))


def is_same_piece(first: Params, second: Params) -> bool:
    """Tell whether two pieces are equal to the bit."""
    return all(torch.equal(first[name], second[name]) for name in first)


def _find_number(reply: Reply, name: str, other: float) -> float:
    return float(reply.answer[name]) if name in reply.answer else other


def detach_array(tensor: Tensor) -> np.ndarray:
    """Read a tensor."""
    return tensor.detach().cpu().numpy()
