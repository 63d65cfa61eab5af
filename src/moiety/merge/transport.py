"""Many mixtures to one, by transport of their experts. It looks at individuals: no fold.

Letters: S support rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from moiety.core.fold import Precision
from moiety.core.protocols import Merged
from moiety.core.state import Reply
from moiety.core.store import Store
from moiety.core.streams import hash_address
from moiety.core.types import Params
from moiety.mixtures.experts import CategoricalExperts
from moiety.mixtures.inputs import LocalFit, Support
from moiety.mixtures.logit import unpack_symmetric
from moiety.mixtures.reduce import ReductionConfig, reduce_mixtures
from moiety.models.mixture import read_mixture, write_mixture


@dataclass(frozen=True)
class Transport:
    """Reduce replies, in the order of their workers, to the mixture nearest to their average.

    One mixture, or the same one from everybody, is its own reduction. The replies' scalar
    precisions are their weights; their hints bring ``support`` [S, d] and ``information``.

    Args:
        recipe: experts, cost, gate, starts.
        seed: of the run; it addresses the k-means starts.

    References:
        Chamroukhi and Pham, arXiv:2312.09877.
    """

    recipe: ReductionConfig
    seed: int = 0

    def weigh(self, reply: Reply, /) -> Precision:
        return reply.precision

    def begin(self, store: Store, /) -> GatheredReplies:
        return GatheredReplies(self, store)

    def reduce(self, replies: Sequence[Reply]) -> Params:
        """Reduce mixtures that differ."""
        locals_ = [read_local_mixture(reply) for reply in replies]
        rng = np.random.default_rng(hash_address(self.seed, "transport"))
        done = reduce_mixtures(locals_, gather_support(replies), self.recipe, rng)
        return write_mixture(done.mixture, replies[0].piece)


@dataclass(frozen=True)
class GatheredReplies:
    """A transport under way: it needs all mixtures together."""

    transport: Transport
    store: Store
    replies: list[Reply] = field(default_factory=list)

    def add(self, reply: Reply, /) -> None:
        self.replies.append(reply)

    def close(self) -> Merged:
        found = sorted(self.replies, key=lambda reply: reply.worker)
        if not found:
            return Merged(*self.store.close())
        first = found[0].piece
        alike = all(is_same_piece(reply.piece, first) for reply in found)
        params = first if alike else self.transport.reduce(found)
        held = {name: torch.ones((1,) * t.ndim, dtype=torch.bool) for name, t in params.items()}
        return Merged(params, {name: mask.to(params[name].device) for name, mask in held.items()})


def is_same_piece(first: Params, second: Params) -> bool:
    """Tell whether two pieces are equal to the bit."""
    return all(torch.equal(first[name], second[name]) for name in first)


def read_local_mixture(reply: Reply) -> LocalFit[CategoricalExperts]:
    """Read off a reply what the reduction needs of it."""
    known = reply.answer.get("information")  # one expert has no gate to know of
    information = unpack_symmetric(np.zeros(0) if known is None else detach_array(known))
    return LocalFit(read_mixture(reply.piece), reply.precision.scalar, information)


def gather_support(replies: Sequence[Reply]) -> Support:
    """Pool support rows; each stands for as many rows as its worker has per row sent."""
    rows = [detach_array(reply.answer["support"]) for reply in replies]
    weights = [
        np.full(len(x), reply.precision.scalar / len(x))
        for x, reply in zip(rows, replies, strict=True)
    ]
    return Support(np.concatenate(rows), np.concatenate(weights))


def detach_array(tensor: Tensor) -> np.ndarray:
    """Read a tensor."""
    return tensor.detach().cpu().numpy()
