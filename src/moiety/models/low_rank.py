"""Any network, frozen, whose matrices learn a product of two thin factors: low-rank parts.

A matrix ``W`` [O, I] is used as ``W + scale * b a``, with ``a`` [R, I] and ``b`` [O, R] on the axis
``rank``. Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, arXiv:2106.09685.
Letters: B rows, D width, C outputs, O outputs and I inputs of a matrix, R rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Protocol, runtime_checkable

from torch import Generator, Tensor

from moiety.core.axes import Axes
from moiety.core.protocols import Kept
from moiety.core.types import Batch, Params
from moiety.models.base import FeatureModel
from moiety.models.init import draw_uniform

RANK = "rank"


class Factored(FeatureModel, Protocol):
    """A model whose parameters are pairs of factors on the axis ``rank``."""

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Names of left [O, R] and right factors [R, I] that are multiplied."""
        ...


@runtime_checkable
class Adaptable(Protocol):
    """A model that knows how low-rank parts are put into what it freezes."""

    def make_low_rank(
        self, rank: int, scale: float, targets: Sequence[str], rng: Generator, /
    ) -> Factored:
        """Put them in; ``targets`` are patterns, none for its own choice."""
        ...


@dataclass(frozen=True)
class LowRank:
    """A frozen network and the factors of what is added to its matrices; made by ``low_rank``.

    Args:
        params: ``<matrix>.a`` and ``<matrix>.b``.
        axes: the axis ``rank`` of each.
        inner: the network.
        constants: its parameters, which nobody trains.
        targets: the matrices that are added to.
        scale: of the products.
    """

    params: Params
    axes: Axes
    inner: FeatureModel
    constants: Params
    targets: tuple[str, ...]
    scale: float
    buffers: Mapping[str, str] = field(default_factory=dict)

    @property
    def draws_noise(self) -> bool:
        """Whether the network draws noise."""
        return self.inner.draws_noise

    @property
    def uses_batch_statistics(self) -> bool:
        """Whether rows see each other in the network."""
        return self.inner.uses_batch_statistics

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Name the factors that are multiplied."""
        return tuple((f"{name}.b", f"{name}.a") for name in self.targets)

    def config(self) -> Mapping[str, Any]:
        """Say how to build this again."""
        rank = len(self.params[self.pairs[0][1]])
        told = {"rank": rank, "scale": self.scale, "targets": list(self.targets)}
        return {"kind": "low-rank", "model": self.inner.config(), **told}

    def replace_constants(self, constants: Params, /) -> LowRank:
        return replace(self, constants=constants)

    def redraw(self, rng: Generator, /) -> Params:
        """Draw fresh first values; the network stays."""
        rank = len(self.params[self.pairs[0][1]])
        return draw_factors({n: self.constants[n] for n in self.targets}, rank, rng)

    def compose(self, params: Params) -> Params:
        """Give the network's parameters with the products in them."""
        added = {
            name: self.constants[name] + self.scale * params[left] @ params[right]
            for name, (left, right) in zip(self.targets, self.pairs, strict=True)
        }
        return {**self.constants, **added}

    def features(self, params: Params, batch: Batch, /) -> Tensor:
        return self.inner.features(self.compose(params), batch)

    def logits(self, params: Params, batch: Batch, kept: Kept, /) -> Tensor:
        del kept  # of the axis rank, which ends in the products
        return self.inner.logits(self.compose(params), batch, {})

    def forward(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        del kept
        return self.inner.forward(self.compose(params), batch, {})[0], {}


def draw_factors(matrices: Params, rank: int, rng: Generator) -> Params:
    """Draw the factors of matrices [O, I]: right ones as layers draw weights, left ones 0."""
    drawn: dict[str, Tensor] = {}
    for name, matrix in matrices.items():
        outs, ins = matrix.shape
        drawn[f"{name}.a"] = draw_uniform((rank, ins), ins, rng).to(matrix)
        drawn[f"{name}.b"] = matrix.new_zeros(outs, rank)
    return drawn


def name_axes(params: Params) -> Axes:
    """Give factors the axis ``rank``: right ones by rows, left ones by columns."""
    return {name: (RANK, None) if name.endswith(".a") else (None, RANK) for name in params}


def low_rank(
    inner: FeatureModel,
    base: Params,
    rng: Generator,
    *,
    rank: int,
    scale: float = 1.0,
    targets: Sequence[str] = (),
) -> LowRank:
    """Freeze a network, and add a product of factors to its matrices.

    Args:
        inner: the network.
        base: its parameters, as they are to stay.
        rng: the stream of the first values.
        rank: columns of a left factor.
        scale: of the products.
        targets: patterns of the matrices; none for all.

    Raises:
        ValueError: if no matrix is meant, a pattern means none, or the network has buffers.
    """
    if inner.buffers:
        raise ValueError(
            f"the network has statistics that are merged ({[*inner.buffers][:3]}), but low-rank "
            "parts freeze all but their factors; take a network without batch norm"
        )
    flat = [name for name, t in base.items() if t.ndim == 2]
    idle = [one for one in targets if not any(fnmatchcase(name, one) for name in flat)]
    if idle or not flat:
        raise ValueError(
            f"targets={tuple(targets)}: {idle or 'nothing'} means no matrix; the network has {flat}"
        )
    meant = [n for n in flat if not targets or any(fnmatchcase(n, one) for one in targets)]
    params = draw_factors({name: base[name] for name in meant}, rank, rng)
    return LowRank(params, name_axes(params), inner, dict(base), tuple(meant), scale)
