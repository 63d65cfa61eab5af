"""The mean over those who were asked, of changes that were clipped, with noise that is secret.

With C the largest norm of a change, z the noise and h_j how many of those asked hold coordinate j:

    theta_j + ( sum_w clip(theta_w - P_w theta, C)_j  +  N(0, (z C)^2) ) / h_j

One worker moves the sum by a vector of norm C at most, whatever it holds, so noise goes on the sum;
h_j is public. docs/privacy.md works it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from moiety.core.axes import Axes, Part, add_at_positions, find_cuts
from moiety.core.fold import Precision, add_mass
from moiety.core.protocols import Merged
from moiety.core.state import Reply
from moiety.core.store import Store
from moiety.core.tensors import digest_tensors
from moiety.core.types import Params
from moiety.ops.keyed_noise import draw_keyed_normal


def clip_change(before: Params, after: Params, names: frozenset[str], most: float) -> Params:
    """Give what was changed, in float64, shortened to a norm over all tensors together.

    Args:
        before: what was sent.
        after: what came back.
        names: of the tensors that count; others are left out.
        most: the largest norm.
    """
    change = {
        name: t.double() - before[name].double() for name, t in after.items() if name in names
    }
    norm = float(sum((t.square().sum() for t in change.values()), torch.zeros(()).double()).sqrt())
    share = min(1.0, most / norm) if norm > 0 else 1.0
    return {name: t * share for name, t in change.items()}


def count_holders(
    whole: Params, axes: Axes, parts: Sequence[Part], names: frozenset[str]
) -> dict[str, Tensor]:
    """Count who holds each coordinate.

    Args:
        whole: all parameters; only shapes are read.
        axes: of the model.
        parts: of those who were asked.
        names: of the tensors that count.

    Returns:
        Parameter -> counts that broadcast against it, float64; none of what nobody holds.
    """
    found: dict[str, Tensor] = {}
    for part in parts:
        for name in names:
            if part.holds(name):
                tensor = whole[name]
                one = torch.ones([1] * tensor.ndim, dtype=torch.float64, device=tensor.device)
                held = found.get(name, torch.zeros_like(one))
                found[name] = add_mass(held, find_cuts(axes, part, name, tensor), one, tensor)
    return found


@dataclass(frozen=True)
class PrivateGathering:
    """A private mean under way."""

    merge: PrivateMean
    store: Store
    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, reply: Reply, /) -> None:
        merge, part = self.merge, reply.share.part
        change = clip_change(self.store.take(part), reply.piece, merge.trained, merge.clip)
        for name, tensor in change.items():
            whole = merge.whole[name]
            if name not in self.sums:
                self.sums[name] = torch.zeros(whole.shape, dtype=tensor.dtype, device=tensor.device)
            where = find_cuts(merge.axes, part, name, self.sums[name])
            add_at_positions(self.sums[name], where, tensor)

    def close(self) -> Merged:
        merge, whole = self.merge, self.store.take(Part())
        holders = count_holders(whole, merge.axes, merge.parts, merge.trained)
        # Of the sums too: should a round be played again with other replies, it has other noise.
        address = digest_tensors(whole, self.sums)
        merged, held = dict(whole), {}
        for name, count in holders.items():
            old = whole[name]
            noise = draw_keyed_normal(merge.key, ("noise", address, name), old.shape)
            total = merge.clip * merge.noise * noise.to(old.device)
            if name in self.sums:
                total = total + self.sums[name]
            some = count > 0
            moved = old.double() + total / torch.where(some, count * merge.each, 1.0)
            merged[name] = torch.where(some, moved.to(old.dtype), old)
            held[name] = some
        return Merged(merged, held)


@dataclass(frozen=True)
class PrivateMean:
    """Clip what each worker changed, add them up, add noise, divide by how many were asked.

    Args:
        whole: the model's parameters; only shapes are read.
        axes: of the model.
        trained: names of what is clipped, added up and given noise; all else stays as it is.
        clip: the largest norm of a worker's change.
        noise: standard deviation of the noise over ``clip``.
        parts: of the workers that were asked in this round, whether they answered or not.
        each: as how many holders each of the parts counts.
        key: from which the noise is drawn; whoever knows it can take the noise away again.
    """

    whole: Params
    axes: Axes
    trained: frozenset[str]
    clip: float
    noise: float = 0.0
    parts: tuple[Part, ...] = ()
    each: float = 1.0
    key: bytes = field(default=b"", repr=False)

    def weigh(self, reply: Reply, /) -> Precision:
        """Weigh all alike: what a worker claims of itself is not private."""
        del reply
        return Precision()

    def begin(self, store: Store, /) -> PrivateGathering:
        return PrivateGathering(self, store)
