"""From a record to everything a run needs: data dealt, common expert trained, method made."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from moiety.blocks.partitioned import check_partitioned
from moiety.core.errors import UnknownNameError
from moiety.core.protocols import Method
from moiety.core.rows import CALIBRATION_ROWS, OpenRows, Rows, TransformedRows, sample_rows
from moiety.core.stage import Stage
from moiety.core.types import Params
from moiety.data import datasets, files
from moiety.data.dataset import Dataset, FeatureScale
from moiety.data.partition import count_labels
from moiety.engine.choose import BLOCK_ENGINES
from moiety.methods import METHODS
from moiety.methods.fedavg import fedavg
from moiety.methods.task import Task
from moiety.models.base import FeatureModel
from moiety.models.gated import Common
from moiety.recipes.blocks import check_blocks
from moiety.recipes.common import find_anchors, freeze_common, require_common, train_common
from moiety.recipes.fields import suggest_names
from moiety.recipes.graphs import (
    TRAIN,
    cluster_graph,
    make_identity_scale,
    make_opener,
    move_graph,
    partition_graph,
)
from moiety.recipes.kinds import check_network, check_reads
from moiety.recipes.options import keep_options, make_network, make_stages
from moiety.recipes.population import Partition, add_anchors, make_partition
from moiety.recipes.record import Federation
from moiety.recipes.scaling import fingerprint_data, move_model, stamp_file, standardise_dataset
from moiety.recipes.schedule import check_schedule
from moiety.tasks.objectives import CrossEntropy, NodeCrossEntropy

REFERENCE = "common"
"""Not a method: the common expert alone, which never trains."""

LISTED = 1000
"""Populations up to this size have their rows per class written in the ledger."""


@dataclass(frozen=True)
class SeedData:
    """What methods of one seed share: scaled data, who holds what, the common expert."""

    data: Dataset
    scale: FeatureScale
    places: Partition
    net: FeatureModel
    common_params: Params
    common: Common | None
    common_accuracy: float
    data_fingerprint: str


@dataclass(frozen=True)
class RunInputs:
    """A run, ready but for its engine and folder."""

    method: Method
    rounds: int
    open: OpenRows
    groups: Mapping[str, Mapping[int, Rows]]
    anchors: Mapping[int, int]
    num_seen: int
    num_unseen: int
    cohort_size: int
    seen_counts: Sequence[Sequence[int]]
    unseen_counts: Sequence[Sequence[int]]
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    scale: FeatureScale
    common_accuracy: float
    columns: tuple[str, ...]
    data_fingerprint: str
    sample: Rows
    inputs: int = 0
    later_stages: tuple[Stage, ...] = ()

    @property
    def stages(self) -> list[Stage]:
        """List the stages; ``rounds`` are those of all of them."""
        first = self.rounds - sum(stage.rounds for stage in self.later_stages)
        return [Stage(self.method, first), *self.later_stages]


def read_data(name: str, target: str) -> Dataset:
    """Load a data set by name, or a user's own file or folder."""
    if not name:
        raise ValueError("this recipe has no data of its own: say --data FILE or --data DIR")
    if name in datasets.DATASETS:
        return datasets.load_dataset(name)
    if Path(name).exists() or Path(name).suffix or "/" in name:
        return files.read_file(Path(name), target=target or None)
    raise UnknownNameError(
        f"no data set or file {name!r}{suggest_names(name, datasets.DATASETS)} Files are CSV, "
        "Parquet, npz or a folder of images"
    )


def resolve_path(name: str) -> str:
    """Say where a file of the user's is for good, so that a run can go on from elsewhere."""
    if not name or name in datasets.DATASETS or not Path(name).exists():
        return name
    return str(Path(name).resolve())


def prepare_seed_data(record: Federation, seed: int) -> SeedData:
    """Prepare what all methods of one seed share; kept for the next method."""
    return build_seed_data(keep_data_fields(record), seed, stamp_file(record.data))


@functools.lru_cache(maxsize=2)
def build_seed_data(record: Federation, seed: int, now: tuple[int, int]) -> SeedData:
    """Prepare: a pure function of a record, a seed and the data file as it is ``now``."""
    del now
    check_network(record.net)
    data = cluster_graph(read_data(record.data, record.target), record.graph)
    check_reads(record.net, data)
    if data.graph is not None:
        return build_graph_seed_data(record, data, seed)
    places = make_partition(data, record.population, seed)
    mark = fingerprint_data(data)
    known = places.public if len(places.public) else torch.cat(list(places.train.values()))
    data, scale = standardise_dataset(record, data, known)
    x, y = data.x, data.y
    assert y is not None
    net = make_network(record.net, record.options, data.x.shape[1:], len(data.classes), seed)
    net = move_model(net, record.device)
    held = places.validation if len(places.validation) else known
    trained, reached = net.params, 0.0
    if len(places.public):
        public, validation = (x[known], y[known]), (x[held], y[held])
        trained, reached = train_common(net, record.common, public, validation, seed)
    count = record.population.anchors
    # Nobody reads the common expert of a run without public rows and without anchors.
    common = freeze_common(
        net, trained, x[known if len(places.public) or count else known[:CALIBRATION_ROWS]]
    )
    if count and not places.anchors:
        anchors = find_anchors(common, x, places.train, count, seed)
        places = add_anchors(places, anchors)
    return SeedData(data, scale, places, net, trained, common, reached, mark)


def build_graph_seed_data(record: Federation, data: Dataset, seed: int) -> SeedData:
    """Prepare a graph: nothing is standardised, and there is no common expert."""
    assert data.graph is not None
    assert data.y is not None
    places = partition_graph(data, data.graph, record.population)
    mark, device = fingerprint_data(data), record.device
    graph = move_graph(data.graph, device)
    data = replace(data, x=data.x.to(device), y=data.y.to(device), graph=graph)
    net = move_model(
        make_network(record.net, record.options, data.x.shape[1:], len(data.classes), seed), device
    )
    return SeedData(data, make_identity_scale(data), places, net, net.params, None, 0.0, mark)


def keep_data_fields(record: Federation) -> Federation:
    """Leave out of a record what does not change the ground."""
    plain = Federation()
    return replace(
        plain,
        data=record.data,
        target=record.target,
        device=record.device,
        population=record.population,
        net=record.net,
        options=keep_options(record.options, [record.net]),
        graph=record.graph,
        common=record.common,
    )


def build_run(record: Federation, method: str, seed: int) -> RunInputs:
    """Build the run of one method and seed.

    Raises:
        ValueError: for a choice that does not fit, with the value and the remedy.
    """
    if method not in METHODS and method != REFERENCE:
        raise UnknownNameError(
            f"unknown method {method!r}{suggest_names(method, [*METHODS, REFERENCE])}"
        )
    parted = record.engine in BLOCK_ENGINES
    base = prepare_blocks(record, method, seed) if parted else prepare_seed_data(record, seed)
    if method in ("ddome", REFERENCE):
        require_common(method, len(base.places.public))
    workers = min(record.participation.size, len(base.places.train))
    check_schedule(record, workers, anchors=bool(base.places.anchors))
    task = Task(
        model=base.net,
        local=record.local,
        rounds=record.rounds,
        workers=workers,
        population=workers if record.participation.fixed else len(base.places.train),
        seed=seed,
        common=base.common,
        start=base.common_params,
        anchors=base.places.anchors,
        shape=tuple(base.data.x.shape[1:]),
        classes=len(base.data.classes),
        objective=CrossEntropy if base.data.graph is None else NodeCrossEntropy,
    )
    made = (
        [Stage(replace(fedavg(task), name=REFERENCE), 0)]
        if method == REFERENCE
        else make_stages(method, task, record.options)
    )
    if parted:
        check_partitioned(made[0].method)
    if method == REFERENCE:
        record = replace(record, rounds=0)
    return replace(
        assemble_inputs(record, base, made[0].method, seed), later_stages=tuple(made[1:])
    )


def prepare_blocks(record: Federation, method: str, seed: int) -> SeedData:
    """Prepare a run of which nobody has the whole: a model of shapes alone; nothing wide is drawn.

    Raises:
        ValueError: for what needs the whole, with the remedy.
    """
    check_blocks(record, method)
    base = prepare_seed_data(record, seed)
    with torch.device("meta"):
        shape, classes = base.data.x.shape[1:], len(base.data.classes)
        model = make_network(record.net, record.options, shape, classes, seed)
    return replace(base, net=model, common_params=model.params, common=None)


def assemble_inputs(record: Federation, base: SeedData, method: Method, seed: int) -> RunInputs:
    """Open the rows of every worker, through the method's view."""
    rows_of = make_opener(base.data)
    train = {w: rows_of(TRAIN, rows) for w, rows in base.places.train.items()}
    open_rows: OpenRows = train.__getitem__
    groups = {
        name: {w: rows_of(name, rows) for w, rows in group.items()}
        for name, group in base.places.groups.items()
    }
    first = method.first or method.model.params
    if record.engine not in BLOCK_ENGINES:  # whose whole is nowhere
        method = replace(method, first={n: t.to(record.device) for n, t in first.items()})
    if method.transform is not None:
        open_rows = TransformedRows(open_rows, method.transform)
        seen = {
            name: TransformedRows(group.__getitem__, method.transform)
            for name, group in groups.items()
        }
        groups = {name: {w: seen[name](w) for w in group} for name, group in groups.items()}
    size = min(record.participation.size, len(train))
    return RunInputs(
        method=method,
        rounds=record.rounds,
        open=open_rows,
        groups=groups,
        anchors=base.places.anchors,
        num_seen=len(train),
        num_unseen=len(groups.get("unseen", {})),
        cohort_size=size,
        seen_counts=count_worker_classes(base, base.places.train),
        unseen_counts=count_worker_classes(base, base.places.groups.get("unseen", {})),
        classes=base.data.classes,
        shape=tuple(base.data.x.shape[1:]),
        scale=base.scale,
        common_accuracy=base.common_accuracy,
        columns=base.data.columns,
        data_fingerprint=base.data_fingerprint,
        sample=sample_rows(open_rows, sorted(train), CALIBRATION_ROWS, seed),
        inputs=0 if base.data.graph is None else base.data.graph.inputs,
    )


def count_worker_classes(base: SeedData, hands: Mapping[int, Tensor]) -> list[list[int]]:
    """Count rows per class and worker, for populations small enough to list."""
    if len(hands) > LISTED or not hands or base.data.y is None or base.data.y.ndim > 1:
        return []
    if base.data.graph is not None:  # every worker learns from the same labelled nodes
        learnt = base.data.graph.train.nonzero()[:, 0]
        hands = dict.fromkeys(hands, learnt)
    return count_labels(base.data.y.cpu(), list(hands.values()), len(base.data.classes))
