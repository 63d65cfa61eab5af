"""Graphs as recipes read them: features projected, clusters cut, every worker on all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from moiety.core.rows import Rows
from moiety.data.clusters import cut_clusters
from moiety.data.dataset import Dataset, FeatureScale
from moiety.data.graph import Graph, GraphRows, mask_labels, project_features
from moiety.recipes.population import TRAIN, Partition
from moiety.recipes.record import Population, Subgraphs

ALONE = -1
"""The number of a group that is nobody's own."""


def find_graph(data: Dataset) -> Graph:
    """Find the graph of data that are known to have one."""
    assert data.graph is not None
    return data.graph


def cluster_graph(data: Dataset, choice: Subgraphs) -> Dataset:
    """Project the features of a graph and cut it.

    Raises:
        ValueError: for what cannot be cut or projected so.
    """
    if choice.project < 0:
        raise ValueError(f"graph.project={choice.project}; choose a width, or 0 for none")
    graph = find_graph(data)
    x = project_features(data.x, choice.project) if choice.project else data.x
    cut = cut_clusters(graph.edges, data.size, choice.clusters)
    return replace(data, x=x, graph=replace(graph, clusters=cut, inputs=data.x.shape[1]))


def partition_graph(data: Dataset, population: Population, seed: int) -> Partition:
    """Give every worker all clusters; test and validate on the graph as one, by its masks.

    Raises:
        ValueError: for a population that a graph does not have.
    """
    del seed
    if population.scheme != "all" or population.unseen or population.public:
        raise ValueError(
            f"a graph is held by every worker whole, but population is {population}; use "
            "scheme='all', unseen=0 and public=0"
        )
    assert data.test is not None
    graph = find_graph(data)
    none, one = torch.zeros(0, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    train = torch.arange(int(graph.clusters.max()) + 1)
    masks = {"test": data.test, "validation": graph.validation}
    groups = {name: {ALONE: one} for name, mask in masks.items() if mask.any()}
    workers = range(population.workers)
    return Partition(none, none, dict.fromkeys(workers, train), groups, {})


def keep_scale(data: Dataset, known: Tensor) -> tuple[Dataset, FeatureScale]:
    """Leave features as they are: those of a graph are projected, not standardised."""
    del known
    width = data.x.shape[1]
    return data, FeatureScale(torch.zeros(width), torch.ones(width))


def open_graph(data: Dataset) -> Callable[[str, Tensor], Rows]:
    """Give what opens clusters of a graph for a group; only its own labels show."""
    graph = find_graph(data)
    tables = make_node_tables(data, graph)
    whole = torch.zeros_like(graph.clusters)

    def opened(group: str, index: Tensor) -> Rows:
        cut = graph.clusters if group == TRAIN else whole
        return GraphRows(tables[group], graph.edges, cut, index)

    return opened


def make_node_tables(data: Dataset, graph: Graph) -> Mapping[str, Mapping[str, Tensor]]:
    """Give the columns of all nodes for each group: only its own labels show."""
    assert data.y is not None
    assert data.test is not None
    masks = {TRAIN: graph.train, "validation": graph.validation, "test": data.test}
    return {
        name: {"x": data.x, "y": mask_labels(data.y, mask.to(data.y.device))}
        for name, mask in masks.items()
    }
