"""Factors are stacked, not added: a product of stacks is the sum of products.

The mean of factors is not the factor of the mean. So replies are put beside each other along the
axis that their factors share, which workers may hold unequal lengths of, and the stack is reduced
to the length of the axis. Letters: O outputs, I inputs, R rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from moiety.core.axes import Axes, Part, add_piece, take_piece
from moiety.core.fold import Precision
from moiety.core.protocols import Merged
from moiety.core.state import Reply
from moiety.core.store import Store
from moiety.core.types import Params
from moiety.merge.gather import Gathering
from moiety.merge.overlap import read_precision
from moiety.ops.factors import refactor_product, stack_factors


@dataclass(frozen=True)
class Stack:
    """The exact mean of products of factors, in factors again.

    The mean is over what each worker's whole would be: directions that it did not hold are to it
    as they were. It is exact where its rank is no larger than the axis is long, and else the
    nearest product of that rank. All pairs of a reply are known alike: its scalar precision counts.

    Args:
        pairs: names of left [O, R] and right factors [R, I].
        axes: of the model.
        axis: the one that both factors lie on.
        weigh: how well a reply is known.

    References:
        Wang et al., *FLoRA: Federated Fine-Tuning Large Language Models with Heterogeneous
        Low-Rank Adaptations*, arXiv:2409.05976 (stacks); Bai et al., *Federated Fine-tuning of
        Large Language Models under Heterogeneous Tasks and Client Resources*, arXiv:2402.11505
        (the sum of products, cut to each worker's rank).
    """

    pairs: tuple[tuple[str, str], ...]
    axes: Axes
    axis: str
    weigh: Callable[[Reply], Precision] = read_precision

    def begin(self, store: Store, /) -> Gathering:
        return Gathering(store, self.merge_all)

    def merge_all(self, store: Store, replies: Sequence[Reply]) -> Merged:
        """Stack the factors, and average what is beside them."""
        before = store.take(Part())
        factors = {name for pair in self.pairs for name in pair}
        for reply in replies:
            others = {name: t for name, t in reply.piece.items() if name not in factors}
            store.add(reply.share.part, others, self.weigh(reply))
        merged = Merged(*store.close())
        if not replies:
            return merged
        found = self.reduce(before, replies)
        masks = {name: torch.ones((1, 1), dtype=torch.bool, device=t.device)
                 for name, t in found.items()}  # fmt: skip
        return Merged({**merged.params, **found}, {**merged.held, **masks})

    def reduce(self, before: Params, replies: Sequence[Reply]) -> Params:
        """Stack the factors of every pair, and reduce them to the length of the axis."""
        known = [self.weigh(reply).scalar for reply in replies]
        shares = [one / sum(known) for one in known]
        found: dict[str, Tensor] = {}
        for left, right in self.pairs:
            stacked = [(share, reply.piece[left], reply.piece[right])
                       for share, reply in zip(shares, replies, strict=True)]  # fmt: skip
            kept_R = before[right].new_ones(len(before[right]), dtype=torch.float64)
            for share, reply in zip(shares, replies, strict=True):
                held = reply.share.part.axes.get(self.axis)
                kept_R[slice(None) if held is None else held.to(kept_R.device)] -= share
            rest = before[left] * kept_R.clamp(min=0)
            told = stack_factors([*stacked, (1.0, rest, before[right])])
            found[left], found[right] = refactor_product(*told, before[right])
        return {name: t.to(before[name]) for name, t in found.items()}


@dataclass(frozen=True)
class Padded:
    """The mean of factors over all replies, 0 where a worker holds none: what FedIT does.

    It is not the mean of the products, and shrinks what only some hold; a baseline.

    Args:
        axes: of the model.
        weigh: how well a reply is known.

    References:
        Zhang et al., *Towards Building the Federated GPT: Federated Instruction Tuning*,
        arXiv:2305.05644; zeros for unequal ranks: Cho et al., *Heterogeneous LoRA for Federated
        Fine-tuning of On-Device Foundation Models*, arXiv:2401.06432.
    """

    axes: Axes
    weigh: Callable[[Reply], Precision] = read_precision

    def begin(self, store: Store, /) -> PaddedReplies:
        return PaddedReplies(self, store)


@dataclass(frozen=True)
class PaddedReplies:
    """A padded mean under way."""

    merge: Padded
    store: Store

    def add(self, reply: Reply, /) -> None:
        whole = self.store.take(Part())
        names = Part(names=tuple(reply.piece))
        padded = {name: torch.zeros_like(t) for name, t in take_piece(whole, {}, names).items()}
        add_piece(padded, self.merge.axes, reply.share.part, reply.piece)
        know = replace(self.merge.weigh(reply), axes={}, diagonal={})
        self.store.add(names, padded, know)

    def close(self) -> Merged:
        return Merged(*self.store.close())
