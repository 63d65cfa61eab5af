"""Rules that make one value of several, of which some are bad, over parts: by those who held it.

Letters: N replies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from moiety.core.axes import Axes, add_piece
from moiety.core.errors import UnknownNameError
from moiety.core.fold import choose_sum_dtype
from moiety.core.state import Reply
from moiety.core.types import Params

WEISZFELD_STEPS, CLOSE = 32, 1e-6
"""Steps to a geometric median, and the distance below which a reply counts as lying on it."""

FLAG_STEPS, TINY = 10, 1e-12
"""Steps to a subspace, and the length below which a change is none."""

CLIP = "clip"

READERS: Mapping[str, tuple[str, ...]] = {"share": ("trimmed", "multikrum"), "norm": (CLIP,)}
"""Which kinds read an option."""


@dataclass(frozen=True)
class Merging:
    """How replies are merged, where not as the method says.

    Args:
        kind: ``""`` (as the method says), ``median``, ``trimmed``, ``krum``, ``multikrum``,
            ``geomedian``, ``flag`` or ``clip``.
        share: of the workers that may be bad: as many are left out at either end (``trimmed``) or
            as a whole (``multikrum``); rounded down, at least one.
        norm: of a worker's change, above which ``clip`` shortens it; 0 for the median of the
            round's norms.
    """

    kind: str = ""
    share: float = 0.2
    norm: float = 0.0

    def __post_init__(self) -> None:
        if self.kind and self.kind not in RULES:
            raise UnknownNameError(f"merge.kind={self.kind!r}; choose one of {[*RULES]}")
        if not 0 < self.share < 0.5 or not 0 <= self.norm < math.inf:
            raise ValueError(
                f"merge.share={self.share}, merge.norm={self.norm}; choose a share between 0 and "
                "0.5, and a finite norm of at least 0"
            )
        for name, readers in READERS.items():
            value = getattr(self, name)
            if value != getattr(Merging, name) and self.kind not in readers:
                raise ValueError(
                    f"merge.{name}={value} is read by merge.kind {' and '.join(readers)} alone, "
                    f"and merge.kind is {self.kind!r}; leave it out"
                )


@dataclass(frozen=True)
class Laid:
    """Replies of a round, laid over the whole.

    Args:
        values: parameter -> [N, *shape], 0 where not held.
        held: parameter -> [N, *shape], true where held.
        before: the whole that they change.
    """

    values: Mapping[str, Tensor]
    held: Mapping[str, Tensor]
    before: Params = field(default_factory=dict)

    def changes(self) -> dict[str, Tensor]:
        """Give what each reply changed, [N, *shape]; 0 where not held."""
        return {
            name: torch.where(self.held[name], values - self.before[name].to(values), 0.0)
            for name, values in self.values.items()
        }

    def mean(self, weights_N: Tensor) -> dict[str, Tensor]:
        """Give the weighted mean of holders; NaN where nobody counts."""
        found = {}
        for name, values in self.values.items():
            weights = weights_N.to(values).reshape(-1, *[1] * (values.ndim - 1))
            weights = weights * self.held[name]
            found[name] = (values * weights).sum(0) / weights.sum(0)
        return found


Rule = Callable[[Laid, Merging], dict[str, Tensor]]


def lay_replies(whole: Params, axes: Axes, replies: Sequence[Reply]) -> Laid:
    """Lay replies over the whole.

    Args:
        whole: the server's parameters; only forms are read.
        axes: of the model.
        replies: at least one.
    """
    values: dict[str, Tensor] = {}
    held: dict[str, Tensor] = {}
    for name, tensor in whole.items():
        shape, dtype = (len(replies), *tensor.shape), choose_sum_dtype(tensor)
        put = torch.zeros(shape, dtype=dtype, device=tensor.device)
        here = torch.zeros(shape, dtype=torch.uint8, device=tensor.device)
        for place, reply in enumerate(replies):
            if name in reply.piece:
                piece, part = reply.piece[name], reply.share.part
                add_piece({name: put[place]}, axes, part, {name: piece.to(dtype)})
                add_piece(
                    {name: here[place]},
                    axes,
                    part,
                    {name: torch.ones_like(piece, dtype=torch.uint8)},
                )
        if bool(here.any()):
            values[name], held[name] = put, here > 0
    return Laid(values, held, whole)


def sort_held(values: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
    """Sort the values of each coordinate, those not held last; and count who held it."""
    return values.masked_fill(~held, math.inf).sort(0).values, held.sum(0)


def take_median(laid: Laid, merging: Merging) -> dict[str, Tensor]:
    """Take the median of holders; of an even number the mean of the middle two."""
    del merging
    found = {}
    for name, values in laid.values.items():
        ranked, count = sort_held(values, laid.held[name])
        low = ranked.gather(0, ((count - 1).clamp_min(0) // 2)[None])[0]
        high = ranked.gather(0, (count // 2).clamp_max(len(ranked) - 1)[None])[0]
        found[name] = (low + high) / 2
    return found


def trim_mean(laid: Laid, merging: Merging) -> dict[str, Tensor]:
    """Take the mean of holders without the least and the greatest (Yin et al., arXiv:1803.01498).

    At either end a share of the holders is left out, rounded down, at least one where three hold.
    """
    found = {}
    for name, values in laid.values.items():
        ranked, count = sort_held(values, laid.held[name])
        cut = (merging.share * count).long().clamp_min(1)
        cut = torch.minimum(cut, (count - 1) // 2).clamp_min(0)
        rank = torch.arange(len(ranked), device=values.device)
        rank = rank.reshape(-1, *[1] * (values.ndim - 1))
        keep = (rank >= cut) & (rank < count - cut)
        kept = torch.where(keep, ranked, 0.0)
        found[name] = kept.sum(0) / keep.sum(0).clamp_min(1)
    return found


def score_by_krum(laid: Laid, bad: int) -> Tensor:
    """Give each reply the sum of its distances to its nearest (Blanchard et al., NeurIPS 2017).

    The distance of two parts is the mean square over what both hold; of two that share nothing it
    is unknown, and counts as infinite.

    Returns:
        Scores, [N]; less is better. As many neighbours count as there are good ones beside it.
    """
    size = len(next(iter(laid.values.values())))
    total = torch.zeros(size, size, dtype=torch.float64)
    count = torch.zeros(size, size, dtype=torch.float64)
    for name, values in laid.values.items():
        held = laid.held[name]
        for one in range(size):
            both = held & held[one]
            square = (values - values[one]).square() * both
            total[one] += square.reshape(size, -1).sum(1).double().cpu()
            count[one] += both.reshape(size, -1).sum(1).double().cpu()
    distance = torch.where(count > 0, total / count.clamp_min(1), math.inf)
    distance.fill_diagonal_(math.inf)
    if size > 1 and not bool((distance < math.inf).any()):
        raise ValueError(
            "krum compares replies where they hold the same, but no two parts of this round share "
            "a coordinate; choose merge.kind='median' or 'clip'"
        )
    near = max(1, min(size - 1, size - bad - 2))
    return distance.sort(1).values[:, :near].sum(1)


def count_bad(laid: Laid, merging: Merging) -> int:
    """Say how many replies may be bad."""
    return max(1, int(merging.share * len(next(iter(laid.values.values())))))


def choose_by_krum(laid: Laid, merging: Merging) -> dict[str, Tensor]:
    """Take the reply that lies nearest to the others."""
    scores = score_by_krum(laid, count_bad(laid, merging))
    return laid.mean(torch.eye(len(scores))[scores.argmin()])


def average_by_krum(laid: Laid, merging: Merging) -> dict[str, Tensor]:
    """Take the mean of all but as many as may be bad, which score worst."""
    bad = count_bad(laid, merging)
    scores = score_by_krum(laid, bad)
    weights = torch.zeros(len(scores))
    weights[scores.argsort(stable=True)[: max(1, len(scores) - bad)]] = 1.0
    return laid.mean(weights)


def find_geometric_median(laid: Laid, merging: Merging) -> dict[str, Tensor]:
    """Find the point of least summed distance to the replies (Pillutla et al., arXiv:1912.13445).

    The distance to a part is the root of the mean square over what it holds, so that large parts
    are no farther. Weiszfeld's steps from the mean.
    """
    del merging
    size = len(next(iter(laid.values.values())))
    sizes = sum(
        (held.reshape(size, -1).sum(1).double() for held in laid.held.values()), torch.zeros(size)
    )
    found = laid.mean(torch.ones(size))
    for _ in range(WEISZFELD_STEPS):
        squares = torch.zeros(size, dtype=torch.float64)
        for name, values in laid.values.items():
            gap = torch.where(laid.held[name], values - found[name], 0.0)
            squares += gap.reshape(size, -1).square().sum(1).double().cpu()
        distance = (squares / sizes.cpu().clamp_min(1)).sqrt()
        found = laid.mean(1 / distance.clamp_min(CLOSE))
    return found


def average_in_subspace(laid: Laid, merging: Merging) -> dict[str, Tensor]:
    """Project the mean change on the subspace that most changes lie near (Almasi et al.).

    Flag aggregator, arXiv:2302.05865: of dimension half the replies and one, rounded up; found by
    iterated least squares, in which a change counts the less the farther it lies from the
    subspace. Changes have the median of their norms here, for one may be of any; a coordinate that
    few hold is made up for by as much as others lack it. Whole numbers have their median.
    """
    moved = {n: t for n, t in laid.changes().items() if laid.before[n].is_floating_point()}
    size = len(next(iter(moved.values())))
    flat_ND = torch.cat([t.reshape(size, -1).double().cpu() for t in moved.values()], 1)
    norm_N = flat_ND.norm(dim=1).clamp_min(TINY)
    gram_NN = flat_ND @ flat_ND.T / norm_N[:, None] / norm_N
    basis_NM = find_flag_basis(gram_NN)
    share_N = basis_NM @ (basis_NM.T @ gram_NN.mean(1)) * norm_N.median() / norm_N
    found = take_median(laid, merging)
    for name, change in moved.items():
        weights = share_N.to(change).reshape(-1, *[1] * (change.ndim - 1))
        more = size / laid.held[name].sum(0).clamp_min(1)
        found[name] = laid.before[name].to(change) + (weights * change).sum(0) * more
    return found


def find_flag_basis(gram_NN: Tensor) -> Tensor:
    """Find orthonormal mixtures of unit changes that span the subspace, [N, M].

    Args:
        gram_NN: their products.
    """
    size = len(gram_NN)
    dimension, weight_N = size // 2 + 1, torch.ones(size, dtype=gram_NN.dtype)
    basis_NM = torch.zeros(size, dimension, dtype=gram_NN.dtype)
    for _ in range(FLAG_STEPS):
        root_N = weight_N.sqrt()
        values_N, vectors_NN = torch.linalg.eigh(root_N[:, None] * gram_NN * root_N)
        most_M = values_N[-dimension:]
        scale_M = torch.where(most_M > TINY, most_M.clamp_min(TINY).rsqrt(), 0.0)
        basis_NM = root_N[:, None] * vectors_NN[:, -dimension:] * scale_M
        near_N = (gram_NN @ basis_NM).square().sum(1).clamp(0, 1)
        weight_N = (1 - near_N).clamp_min(CLOSE).rsqrt()
    return basis_NM


def average_holders(laid: Laid, merging: Merging) -> dict[str, Tensor]:
    """Take the mean of holders."""
    del merging
    return laid.mean(torch.ones(len(next(iter(laid.values.values())))))


RULES: Mapping[str, Rule] = {
    "median": take_median,
    "trimmed": trim_mean,
    "krum": choose_by_krum,
    "multikrum": average_by_krum,
    "geomedian": find_geometric_median,
    "flag": average_in_subspace,
    CLIP: average_holders,
}
"""How values of each coordinate become one; what ``clip`` changes is changed before."""
