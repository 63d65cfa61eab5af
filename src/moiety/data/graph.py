"""A graph as rows: a row is a cluster of nodes, a batch the subgraph that some clusters induce.

Chiang et al., *Cluster-GCN*, arXiv:1905.07953, section 3. Letters: N nodes, E edges, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from moiety.core.streams import stream
from moiety.core.types import Batch
from moiety.tasks.losses import UNSCORED


@dataclass(frozen=True)
class Graph:
    """What a data set of nodes has besides their features and classes.

    Args:
        edges: both ways, without self-loops, [2, E].
        train: nodes whose class may be learnt, bool [N].
        validation: nodes for choosing, bool [N].
        clusters: the cluster of each node, counted from 0, [N].
        inputs: features of a node before they were projected; 0 where they are as they were.
    """

    edges: Tensor
    train: Tensor
    validation: Tensor
    clusters: Tensor
    inputs: int = 0

    def to(self, device: str) -> Graph:
        """Move what is read at every step."""
        return replace(self, edges=self.edges.to(device), clusters=self.clusters.to(device))


@dataclass(frozen=True)
class GraphRows:
    """Clusters of a graph held in memory; the graph is shared, never copied.

    A batch has the columns of its nodes, in their order, and ``edges`` [2, E] between them.

    Args:
        table: columns of nodes, each [N, ...]; label -1 is neither learnt nor scored.
        edges: both ways, [2, E].
        clusters: the cluster of each node, [N].
        index: the clusters that are these rows, [size].

    >>> edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> rows = GraphRows({"y": torch.tensor([5, 6, 7])}, edges, torch.tensor([0, 1, 1]),
    ...                  torch.arange(2))
    >>> batch = rows.take(torch.tensor([1]))
    >>> batch["y"].tolist(), batch["edges"].tolist()
    ([6, 7], [[0, 1], [1, 0]])
    """

    table: Mapping[str, Tensor]
    edges: Tensor
    clusters: Tensor
    index: Tensor

    @property
    def size(self) -> int:
        return len(self.index)

    def take(self, ids: Tensor, /) -> Batch:
        place = self.edges.device
        taken = torch.zeros(int(self.clusters.max()) + 1, dtype=torch.bool, device=place)
        taken[self.index[ids].to(place)] = True
        if taken.all():
            return {**self.table, "edges": self.edges}
        inside = taken[self.clusters]
        nodes = inside.nonzero()[:, 0]
        number = inside.cumsum(0) - 1
        within = inside[self.edges[0]] & inside[self.edges[1]]
        columns = {name: column.index_select(0, nodes) for name, column in self.table.items()}
        return {**columns, "edges": number[self.edges[:, within]]}


def mirror_edges(edges: Tensor) -> Tensor:
    """Give each undirected edge in both directions, [2, 2 E]."""
    return torch.cat([edges, edges.flip(0)], 1)


def make_undirected(edges: Tensor, size: int) -> Tensor:
    """Give each edge once in both directions, and none from a node to itself, [2, E'].

    Args:
        edges: in either direction or both, whole numbers [2, E].
        size: number of nodes.

    Raises:
        ValueError: for edges of another shape or between nodes that are not there.

    >>> make_undirected(torch.tensor([[0, 2, 1, 1], [1, 1, 1, 0]]), 3).tolist()
    [[0, 1, 1, 2], [1, 0, 2, 1]]
    """
    whole = not (edges.is_floating_point() or edges.dtype == torch.bool)
    if edges.ndim != 2 or len(edges) != 2 or not whole:
        raise ValueError(
            f"edges have shape {list(edges.shape)} and are {edges.dtype}; give int64 [2, E], the "
            "two nodes of each edge in a column"
        )
    bad = ((edges < 0) | (edges >= size)).any(0).nonzero()
    if len(bad):
        place = int(bad[0])
        raise ValueError(
            f"edge {place} joins nodes {edges[:, place].tolist()}, but x has {size} nodes, counted "
            f"from 0 to {size - 1}; drop such edges or give all nodes"
        )
    one, other = mirror_edges(edges[:, edges[0] != edges[1]].long())
    number = (one * size + other).unique()
    return torch.stack([number // max(1, size), number % max(1, size)])


def mask_labels(y_N: Tensor, mask_N: Tensor) -> Tensor:
    """Hide the labels outside a mask, [N]."""
    return torch.where(mask_N, y_N, UNSCORED)


def project_features(x_ND: Tensor, width: int) -> Tensor:
    """Multiply features by a fixed Gaussian matrix of variance 1 / width, [N, width].

    Rows are brought to length 1 first. The matrix depends on its shape alone, so that lengths and
    angles are kept up to chance and every dimension carries a little of every word (GIST,
    arXiv:2102.10424, densifies the inputs of small graphs so).
    """
    inputs = x_ND.shape[1]
    by = torch.randn(inputs, width, generator=stream(0, "projection", inputs, width))
    return F.normalize(x_ND) @ (by * width**-0.5)
