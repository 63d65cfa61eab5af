"""Merges that a few bad workers cannot move far.

They look at every reply on its own, and all replies of a round are held at once. A worker's weight
(its rows, its use of an expert) is not read, for a bad one may claim any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from moiety.core.axes import Axes, Part
from moiety.core.fold import Precision
from moiety.core.protocols import Merge, Merged, Method
from moiety.core.state import Reply, measure_change
from moiety.core.store import Store
from moiety.core.types import Params
from moiety.merge.gather import Gathering
from moiety.merge.overlap import overlap, overlap_by_rows
from moiety.merge.rules import CLIP, RULES, Merging, lay_replies


def clip_changes(store: Store, replies: Sequence[Reply], norm: float) -> list[Reply]:
    """Shorten changes to a norm; by default to the median of their norms.

    Args:
        store: gives what was sent.
        replies: at least one.
        norm: the longest change, or 0.
    """
    sent = [store.take(reply.share.part) for reply in replies]
    norms = [measure_change(old, one.piece) for old, one in zip(sent, replies, strict=True)]
    most = norm or float(torch.tensor(norms, dtype=torch.float64).quantile(0.5))
    return [
        replace(one, piece=blend_change(old, one.piece, min(1.0, most / max(long, 1e-30))))
        for old, one, long in zip(sent, replies, norms, strict=True)
    ]


def blend_change(before: Params, after: Params, share: float) -> Params:
    """Go a share of the way that floats were changed."""
    return {
        name: before[name] + share * (t - before[name]) if t.is_floating_point() else t
        for name, t in after.items()
    }


@dataclass(frozen=True)
class Robust:
    """A merge by a rule of ``RULES``."""

    merging: Merging
    axes: Axes

    def weigh(self, reply: Reply, /) -> Precision:
        """Weigh all alike."""
        del reply
        return Precision()

    def begin(self, store: Store, /) -> Gathering:
        return Gathering(store, self.merge_all)

    def merge_all(self, store: Store, replies: Sequence[Reply]) -> Merged:
        """Merge by the rule what each coordinate's holders made of it."""
        if self.merging.kind == CLIP:
            replies = clip_changes(store, replies, self.merging.norm)
        whole = store.take(Part())
        laid = lay_replies(whole, self.axes, replies)
        found = RULES[self.merging.kind](laid, self.merging)
        merged, held = dict(whole), {}
        for name, value in found.items():
            old, some = whole[name], laid.held[name].any(0) & ~value.isnan()
            value = value if old.is_floating_point() else value.round()
            merged[name] = torch.where(some, value.to(old.dtype), old)
            held[name] = some
        return Merged(merged, held)


MEANS: tuple[Merge, ...] = (overlap, overlap_by_rows)
"""Merges whose place another rule may take: both are means over holders."""


def choose_merge(method: Method, merging: Merging) -> Method:
    """Merge as is wished.

    Raises:
        ValueError: for a method whose merge is no mean over holders, or whose workers send more
            than pieces.
    """
    if not merging.kind:
        return method
    if method.merge not in MEANS:
        raise ValueError(
            f"merge.kind={merging.kind!r} takes the place of a mean over holders, but "
            f"{method.name} merges by {type(method.merge).__name__}; leave it out"
        )
    sent = method.first or method.model.params
    if method.worker_means or method.solve.first_optimizer_state(sent):
        raise ValueError(
            f"merge.kind={merging.kind!r} guards pieces, but the workers of {method.name} send "
            "memory besides, which is averaged; take local.optimizer_state='reset', or another "
            "method"
        )
    return replace(method, merge=Robust(merging, method.model.axes))
