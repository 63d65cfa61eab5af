"""Graph networks whose hidden features lie on axes: GCN and GraphSAGE.

Kipf and Welling, arXiv:1609.02907; Hamilton, Ying and Leskovec, arXiv:1706.02216; layers as in
GIST (Wolfe et al., arXiv:2102.10424). Letters: N nodes, E edges, D features, H hidden features,
C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from moiety.core.axes import Axes, AxisEntry
from moiety.core.protocols import Kept
from moiety.core.types import Batch, Params
from moiety.models.base import list_widths
from moiety.models.init import draw_uniform

INPUTS = "d0"
"""The axis of the input features; a batch has all of them, and a part reads its own."""


class Convolution(Protocol):
    """How a layer looks at neighbours."""

    @property
    def kind(self) -> str: ...

    def links(self, edges: Tensor, size: int, like: Tensor, /) -> Tensor:
        """Give what carries features from node to node, sparse [N, N]."""
        ...

    def apply(self, links: Tensor, h_ND: Tensor, weight: Tensor, /) -> Tensor:
        """Give a layer before its bias, [N, H]."""
        ...

    def draw(self, ins: int, outs: int, rng: Generator, /) -> Tensor:
        """Draw first values of a weight."""
        ...

    def entries(self, before: AxisEntry, after: AxisEntry, /) -> tuple[AxisEntry, ...]:
        """Say on which axes the dims of a weight lie."""
        ...


def make_sparse(edges: Tensor, values: Tensor, size: int) -> Tensor:
    """Lay values on edges, sparse [N, N]; unchecked, for nodes were counted before."""
    return torch.sparse_coo_tensor(edges, values, (size, size), check_invariants=False)


@dataclass(frozen=True)
class NormalisedConvolution:
    """``D^-1/2 (A + I) D^-1/2 h W`` with ``W`` [D, H]: eq. 2 of arXiv:1609.02907."""

    kind: str = "gcn"

    def links(self, edges: Tensor, size: int, like: Tensor, /) -> Tensor:
        loops = torch.arange(size, device=edges.device).expand(2, size)
        to, come = both = torch.cat([edges, loops], 1)
        root = to.bincount(minlength=size).to(like.dtype).rsqrt()
        return make_sparse(both, root[to] * root[come], size)

    def apply(self, links: Tensor, h_ND: Tensor, weight: Tensor, /) -> Tensor:
        return torch.sparse.mm(links, h_ND @ weight)

    def draw(self, ins: int, outs: int, rng: Generator, /) -> Tensor:
        return draw_uniform((ins, outs), ins, rng)

    def entries(self, before: AxisEntry, after: AxisEntry, /) -> tuple[AxisEntry, ...]:
        return before, after


@dataclass(frozen=True)
class NeighbourConvolution:
    """``h W[0] + mean over neighbours of h, W[1]`` with ``W`` [2, D, H]; 0 where there are none.

    The halves of the usual matrix of 2 D rows are stacked, so that one subnet of D cuts both.
    """

    kind: str = "sage"

    def links(self, edges: Tensor, size: int, like: Tensor, /) -> Tensor:
        each = edges[0].bincount(minlength=size).to(like.dtype).reciprocal()
        return make_sparse(edges, each[edges[0]], size)

    def apply(self, links: Tensor, h_ND: Tensor, weight: Tensor, /) -> Tensor:
        return h_ND @ weight[0] + torch.sparse.mm(links, h_ND @ weight[1])

    def draw(self, ins: int, outs: int, rng: Generator, /) -> Tensor:
        return draw_uniform((2, ins, outs), 2 * ins, rng)

    def entries(self, before: AxisEntry, after: AxisEntry, /) -> tuple[AxisEntry, ...]:
        return None, before, after


CONVOLUTIONS: Mapping[str, Convolution] = {
    "gcn": NormalisedConvolution(),
    "sage": NeighbourConvolution(),
}


@dataclass(frozen=True)
class GraphNet:
    """Layers on a graph: ReLU and a norm without scale behind each but the last.

    A batch has ``x`` [N, D] and ``edges`` [2, E], both ways and without self-loops. The norm is
    over the hidden features at hand, so the whole needs no calibration. Made by ``graphnet``.

    Args:
        dropout: chance that an entry of a layer's input is dropped in training.
    """

    params: Params
    axes: Axes
    conv: Convolution
    dropout: float = 0.0
    buffers: Mapping[str, str] = field(default_factory=dict)
    uses_batch_statistics: bool = True

    @property
    def draws_noise(self) -> bool:
        return self.dropout > 0

    @property
    def depth(self) -> int:
        """Number of layers, the output's included."""
        return len(self.params) // 2

    def config(self) -> Mapping[str, Any]:
        """Say how to build this model again."""
        weights = [self.params[f"layer{place}.w"] for place in range(1, self.depth + 1)]
        widths = [weights[0].shape[-2], *(weight.shape[-1] for weight in weights)]
        return {"kind": self.conv.kind, "widths": widths, "dropout": self.dropout}

    def redraw(self, rng: Generator, /) -> Params:
        """Draw fresh first values."""
        widths = self.config()["widths"]
        return graphnet(self.conv.kind, widths, rng, dropout=self.dropout).params

    def run(
        self, params: Params, batch: Batch, kept: Kept, rng: Generator | None, depth: int
    ) -> Tensor:
        """Go through ``depth`` layers; dropout is drawn where there is a stream."""
        x_ND = batch["x"]
        if "edges" not in batch:
            raise ValueError(
                "a graph network reads the column 'edges' [2, E], which these rows lack; open the "
                "graph as GraphRows, or call logits(params, {'x': ..., 'edges': ...}, {})"
            )
        h_NH = x_ND.index_select(1, kept[INPUTS].to(x_ND.device)) if INPUTS in kept else x_ND
        links = self.conv.links(batch["edges"], len(x_ND), x_ND)
        for place in range(1, depth + 1):
            if rng is not None:
                h_NH = drop_entries(h_NH, self.dropout, rng)
            h_NH = self.conv.apply(links, h_NH, params[f"layer{place}.w"])
            h_NH = h_NH + params[f"layer{place}.b"]
            if place < self.depth:
                h_NH = F.layer_norm(F.relu(h_NH), h_NH.shape[1:])
        return h_NH

    def features(self, params: Params, batch: Batch, /) -> Tensor:
        """Give the last hidden layer, [N, H]."""
        return self.run(params, batch, {}, None, self.depth - 1)

    def logits(self, params: Params, batch: Batch, kept: Kept, /) -> Tensor:
        return self.run(params, batch, kept, None, self.depth)

    def forward(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        rng = None
        if self.draws_noise and "seed" in batch:
            rng = Generator(choose_draw_device(batch["x"].device)).manual_seed(int(batch["seed"]))
        return self.run(params, batch, kept, rng, self.depth), {}


def choose_draw_device(device: torch.device) -> torch.device:
    """Say where numbers are drawn: with the features, or, where these have none, anywhere."""
    return torch.device("cpu") if device.type == "meta" else device


def drop_entries(h_NH: Tensor, chance: float, rng: Generator) -> Tensor:
    """Set entries to zero by chance, and stretch the others to keep the mean."""
    stays = torch.rand(h_NH.shape, generator=rng, device=h_NH.device) >= chance
    return h_NH * (stays / (1 - chance))


def graphnet(kind: str, widths: Sequence[int], rng: Generator, *, dropout: float = 0.0) -> GraphNet:
    """Make a graph network.

    Args:
        kind: ``gcn`` or ``sage``.
        widths: inputs, hidden features of each layer, classes; they lie on the axes ``d0``,
            ``d1``, ..., the classes on none.
        rng: the stream of its first values.
        dropout: chance that an entry of a layer's input is dropped in training.

    >>> model = graphnet("sage", (4, 3, 2), torch.Generator().manual_seed(0))
    >>> tuple(model.params["layer1.w"].shape), model.axes["layer2.w"]
    ((2, 4, 3), (None, 'd1', None))
    """
    if kind not in CONVOLUTIONS:
        raise ValueError(f"{kind=}; choose one of {tuple(CONVOLUTIONS)}")
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"{widths=}; give at least inputs and classes, all positive")
    if not 0 <= dropout < 1:
        raise ValueError(f"{dropout=}; choose a chance of at least 0 and below 1")
    conv = CONVOLUTIONS[kind]
    params: dict[str, Tensor] = {}
    axes: dict[str, tuple[AxisEntry, ...]] = {}
    for place, (ins, outs) in enumerate(pairwise(widths), 1):
        after = f"d{place}" if place < len(widths) - 1 else None
        params[f"layer{place}.w"] = conv.draw(ins, outs, rng)
        params[f"layer{place}.b"] = torch.zeros(outs)
        axes[f"layer{place}.w"] = conv.entries(f"d{place - 1}", after)
        axes[f"layer{place}.b"] = (after,)
    return GraphNet(params, axes, conv, dropout)


def build_gcn(
    shape: Sequence[int],
    classes: int,
    rng: Generator,
    *,
    hidden: tuple[int, ...] = (64,),
    dropout: float = 0.0,
) -> GraphNet:
    """Make a graph convolutional network (graphs).

    Args:
        shape: of a node's features.
        classes: number of classes.
        rng: the stream of its first values.
        hidden: features of each hidden layer.
        dropout: chance that an entry of a layer's input is dropped in training.
    """
    return graphnet("gcn", list_widths(shape, hidden, classes), rng, dropout=dropout)


def build_sage(
    shape: Sequence[int],
    classes: int,
    rng: Generator,
    *,
    hidden: tuple[int, ...] = (64,),
    dropout: float = 0.0,
) -> GraphNet:
    """Make GraphSAGE, with means over neighbours (graphs).

    Args:
        shape: of a node's features.
        classes: number of classes.
        rng: the stream of its first values.
        hidden: features of each hidden layer.
        dropout: chance that an entry of a layer's input is dropped in training.
    """
    return graphnet("sage", list_widths(shape, hidden, classes), rng, dropout=dropout)


def rebuild_gcn(rng: Generator, widths: Sequence[int], dropout: float) -> GraphNet:
    """Make a graph convolutional network as its ``config()`` says."""
    return graphnet("gcn", widths, rng, dropout=dropout)


def rebuild_sage(rng: Generator, widths: Sequence[int], dropout: float) -> GraphNet:
    """Make GraphSAGE as its ``config()`` says."""
    return graphnet("sage", widths, rng, dropout=dropout)
