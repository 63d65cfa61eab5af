"""Kinds of data: how each is read, split, scaled and opened, and served at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from moiety.core.errors import UnknownNameError
from moiety.core.rows import Rows, TableRows
from moiety.data.dataset import Dataset, FeatureScale
from moiety.data.partition import count_labels
from moiety.models.networks import NETWORKS
from moiety.recipes.fields import CATALOGUE, suggest_names
from moiety.recipes.graphs import (
    cluster_graph,
    find_graph,
    keep_scale,
    open_graph,
    partition_graph,
)
from moiety.recipes.population import Partition, make_partition
from moiety.recipes.record import Federation, Population, Subgraphs
from moiety.recipes.records import read_record_data
from moiety.recipes.scaling import scale_measures, scale_pixels
from moiety.recipes.source import read_data
from moiety.recipes.tokens import read_token_data
from moiety.serve.adapters import Adapter, GraphAdapter, TableAdapter, TextAdapter
from moiety.tasks.objectives import Arrange, NodeLosses, RowLosses

OpenGroup = Callable[[str, Tensor], Rows]
"""Opens rows of a group (``train``, ``validation``, ...) by their positions."""


def read_row_shape(data: Dataset) -> Sequence[int]:
    """Give the shape of a row."""
    return tuple(data.x.shape[1:])


@dataclass(frozen=True)
class DataKind:
    """What a recipe does with data of one kind.

    Args:
        name: as networks name what they read.
        read: brings what was loaded to rows, as the recipe's ``graph`` asks.
        split: says who holds which rows.
        scale: brings rows to one scale, fitted on some of them; gives both.
        open: gives what opens the rows of a group.
        count: counts rows per class and worker, or says nothing.
        adapt: says how inputs come to the finished model.
        losses: how rows lie in outputs, for the objective's loss of each.
        shape: of a row, as a network is made for it.
        subnets: the method that assigns subnets on such data; plans compare with it.
        ahead: what may stand in the place of inputs [B, ...], because something frozen reads them
            first; None where nothing does.
    """

    name: str
    read: Callable[[Dataset, Subgraphs], Dataset]
    split: Callable[[Dataset, Population, int], Partition]
    scale: Callable[[Dataset, Tensor], tuple[Dataset, FeatureScale]]
    open: Callable[[Dataset], OpenGroup]
    count: Callable[[Dataset, Mapping[int, Tensor]], list[list[int]]]
    adapt: Callable[[Dataset, Subgraphs], Adapter]
    losses: Arrange = RowLosses
    shape: Callable[[Dataset], Sequence[int]] = read_row_shape
    subnets: str = "ist"
    ahead: Callable[[Tensor], Tensor] | None = None


def keep_rows(data: Dataset, choice: Subgraphs) -> Dataset:
    """Leave rows as they are; they have no clusters."""
    if choice != Subgraphs():
        raise ValueError(f"{choice}, but {data.name} is no graph; use 'cora' or 'coauthor-cs'")
    return data


def open_rows_table(data: Dataset) -> OpenGroup:
    """Give what opens rows of one table, whatever the group."""
    table = data.table()
    return lambda _, index: TableRows(table, index)


def count_rows(data: Dataset, held: Mapping[int, Tensor]) -> list[list[int]]:
    """Count rows per kind of target (class) and worker."""
    assert data.y is not None
    objective = data.find_objective()
    kinds = objective.stratify(data.y).cpu()
    return count_labels(kinds, list(held.values()), len(objective.strata))


def count_nodes(data: Dataset, held: Mapping[int, Tensor]) -> list[list[int]]:
    """Count labelled nodes per class; every worker learns from the same."""
    learnt = find_graph(data).train.nonzero()[:, 0]
    return count_rows(data, dict.fromkeys(held, learnt))


def count_words(data: Dataset) -> int:
    """Count the words that texts are told apart by, unknown ones and no word among them."""
    known = 0 if data.encoding is None else data.encoding.vocabulary
    return max(known, int(data.x.max()) + 1)


TABLE = DataKind(
    "table",
    keep_rows,
    make_partition,
    scale_measures,
    open_rows_table,
    count_rows,
    adapt=lambda data, _choice: TableAdapter(data.encoding),
)
IMAGES = replace(TABLE, name="images", scale=scale_pixels)
TEXT = replace(
    TABLE,
    name="text",
    count=lambda _data, _held: [],
    adapt=lambda data, _choice: TextAdapter(data.x.shape[1], data.classes),
)
DOCUMENTS = replace(
    TABLE, name="documents", shape=lambda data: (data.x.shape[1], count_words(data))
)
RECORDS = replace(TABLE, name="records")
GRAPH = DataKind(
    "graph",
    cluster_graph,
    partition_graph,
    keep_scale,
    open_graph,
    count_nodes,
    adapt=lambda data, choice: GraphAdapter(find_graph(data).inputs, choice.project),
    losses=NodeLosses,
    subnets="gist",
)


def find_kind(data: Dataset) -> DataKind:
    """Tell tables, images, texts and graphs apart; nothing else asks what data are."""
    if data.graph is not None:
        return GRAPH
    if not data.x.is_floating_point():
        return DOCUMENTS if data.y is None or data.y.ndim == 1 else TEXT
    return IMAGES if data.x.ndim > 2 else TABLE


def read_rows(record: Federation) -> tuple[DataKind, Dataset]:
    """Read the data of a recipe, as its network reads rows.

    Raises:
        ValueError: for data that cannot be used, or that the network does not read.
    """
    check_network(record.net)
    if RECORDS.name in NETWORKS[record.net].reads.kinds:
        data, adapter = read_record_data(record)
        kind = replace(RECORDS, adapt=lambda _data, _choice: adapter)
        return kind, kind.read(data, record.graph)
    data = read_data(record)
    kind = find_kind(data)
    check_reads(record.net, kind, data)
    if NETWORKS[record.net].reads.tokens:
        data, ahead = read_token_data(record, data)
        kind = replace(kind, ahead=ahead)
    data = kind.read(data, record.graph)
    return kind, replace(data, x=data.x.flatten(1)) if NETWORKS[record.net].reads.flat else data


def check_network(name: str) -> None:
    """Refuse a network that is not there."""
    if name not in NETWORKS:
        near = suggest_names(name, NETWORKS, CATALOGUE)
        raise UnknownNameError(f"unknown network {name!r}{near}")


def check_reads(name: str, kind: DataKind, data: Dataset) -> None:
    """Refuse data of a kind that a network does not read.

    Raises:
        ValueError: with the networks that do.
    """
    reads = NETWORKS[name].reads
    if kind.name not in reads.kinds:
        fit = [other for other, entry in NETWORKS.items() if kind.name in entry.reads.kinds]
        # Notes say which column of texts was left out beside others.
        notes = "".join(f"; {note}" for note in data.notes if DOCUMENTS.name in reads.kinds)
        raise ValueError(
            f"network {name!r} reads {' or '.join(reads.kinds)}, but the data are {kind.name}, "
            f"rows of shape {tuple(data.x.shape[1:])}; choose --net {', '.join(fit)}, or other "
            f"data{notes}"
        )
