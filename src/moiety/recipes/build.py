"""From a record to everything a run needs: data dealt, common expert trained, method made."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from moiety.blocks.partitioned import check
from moiety.core.protocols import Method
from moiety.core.rows import SOME, Open, Rows, Seen, some_of
from moiety.core.stage import Stage
from moiety.core.types import Params
from moiety.data import datasets, files
from moiety.data.dataset import Dataset, Scale
from moiety.data.partition import counts
from moiety.engine.choose import BLOCKS
from moiety.methods import METHODS
from moiety.methods.fedavg import fedavg
from moiety.methods.task import Task
from moiety.models.base import Base
from moiety.models.gated import Common
from moiety.recipes.blocks import check_blocks
from moiety.recipes.common import freeze, nearest_anchors, need_common, train_common
from moiety.recipes.fields import nearest
from moiety.recipes.graphs import (
    TRAIN,
    check_graph,
    cluster,
    opener,
    place_graph,
    plain_scale,
    to_device,
)
from moiety.recipes.nets import check_fit, check_kind, network
from moiety.recipes.options import stages
from moiety.recipes.pacing import check_pace
from moiety.recipes.population import Places, place, with_anchors
from moiety.recipes.record import Federation
from moiety.recipes.scaled import fingerprint, on_device, stamp, standardised
from moiety.tasks.objectives import CrossEntropy, NodeCrossEntropy

REFERENCE = "common"
"""Not a method: the common expert alone, which never trains."""

LISTED = 1000
"""Populations up to this size have their rows per class written in the ledger."""


@dataclass(frozen=True)
class Ground:
    """What methods of one seed share: scaled data, who holds what, the common expert."""

    data: Dataset
    scale: Scale
    places: Places
    net: Base
    trained: Params
    common: Common | None
    reached: float
    fingerprint: str


@dataclass(frozen=True)
class Built:
    """A run, ready but for its engine and folder."""

    method: Method
    rounds: int
    open: Open
    groups: Mapping[str, Mapping[int, Rows]]
    anchors: Mapping[int, int]
    num_seen: int
    num_unseen: int
    per_round: int
    seen_counts: Sequence[Sequence[int]]
    unseen_counts: Sequence[Sequence[int]]
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    scale: Scale
    reached: float
    columns: tuple[str, ...]
    fingerprint: str
    sample: Rows
    inputs: int = 0
    later: tuple[Stage, ...] = ()

    @property
    def stages(self) -> list[Stage]:
        """List the stages; ``rounds`` are those of all of them."""
        first = self.rounds - sum(stage.rounds for stage in self.later)
        return [Stage(self.method, first), *self.later]


def read_data(name: str, target: str) -> Dataset:
    """Load a data set by name, or a user's own file or folder."""
    if not name:
        raise ValueError("this recipe has no data of its own: say --data FILE or --data DIR")
    if name in datasets.SETS:
        return datasets.load(name)
    if Path(name).exists() or Path(name).suffix or "/" in name:
        return files.read(Path(name), target=target or None)
    raise ValueError(
        f"no data set or file {name!r}{nearest(name, datasets.SETS)} Files are CSV, Parquet, npz "
        "or a folder of images"
    )


def located(name: str) -> str:
    """Say where a file of the user's is for good, so that a run can go on from elsewhere."""
    if not name or name in datasets.SETS or not Path(name).exists():
        return name
    return str(Path(name).resolve())


def ground(record: Federation, seed: int) -> Ground:
    """Prepare what all methods of one seed share; kept for the next method."""
    return prepare(key(record), seed, stamp(record.data))


@functools.lru_cache(maxsize=2)
def prepare(record: Federation, seed: int, now: tuple[int, int]) -> Ground:
    """Prepare: a pure function of a record, a seed and the data file as it is ``now``."""
    del now
    check_kind(record.net)
    data = cluster(read_data(record.data, record.target), record.graph)
    check_graph(record, data.graph)
    if data.graph is not None:
        return graph_ground(record, data, seed)
    places = place(data, record.population, seed)
    mark = fingerprint(data)
    known = places.public if len(places.public) else torch.cat(list(places.train.values()))
    check_fit(record.net, data.x)
    data, scale = standardised(record, data, known)
    x, y = data.x, data.y
    assert y is not None
    net = network(record.net, data.x.shape[1:], len(data.classes), seed)
    net = on_device(net, record.device)
    held = places.validation if len(places.validation) else known
    trained, reached = net.params, 0.0
    if len(places.public):
        public, validation = (x[known], y[known]), (x[held], y[held])
        trained, reached = train_common(net, record.common, public, validation, seed)
    count = record.population.anchors
    # Nobody reads the common expert of a run without public rows and without anchors.
    common = freeze(net, trained, x[known if len(places.public) or count else known[:SOME]])
    if count and not places.anchors:
        anchors = nearest_anchors(common, x, places.train, count, seed)
        places = with_anchors(places, anchors)
    return Ground(data, scale, places, net, trained, common, reached, mark)


def graph_ground(record: Federation, data: Dataset, seed: int) -> Ground:
    """Prepare a graph: nothing is standardised, and there is no common expert."""
    assert data.graph is not None
    assert data.y is not None
    places = place_graph(data, data.graph, record.population)
    mark, device = fingerprint(data), record.device
    graph = to_device(data.graph, device)
    data = replace(data, x=data.x.to(device), y=data.y.to(device), graph=graph)
    net = on_device(network(record.net, data.x.shape[1:], len(data.classes), seed), device)
    return Ground(data, plain_scale(data), places, net, net.params, None, 0.0, mark)


def key(record: Federation) -> Federation:
    """Leave out of a record what does not change the ground."""
    plain = Federation()
    return replace(
        plain,
        data=record.data,
        target=record.target,
        device=record.device,
        population=record.population,
        net=record.net,
        graph=record.graph,
        common=record.common,
    )


def build(record: Federation, method: str, seed: int) -> Built:
    """Build the run of one method and seed.

    Raises:
        ValueError: for a choice that does not fit, with the value and the remedy.
    """
    if method not in METHODS and method != REFERENCE:
        raise ValueError(f"unknown method {method!r}{nearest(method, [*METHODS, REFERENCE])}")
    parted = record.engine in BLOCKS
    base = in_blocks(record, method, seed) if parted else ground(record, seed)
    if method in ("ddome", REFERENCE):
        need_common(method, len(base.places.public))
    workers = min(record.turnout.size, len(base.places.train))
    check_pace(record, workers, anchors=bool(base.places.anchors))
    task = Task(
        model=base.net,
        local=record.local,
        rounds=record.rounds,
        workers=workers,
        seed=seed,
        common=base.common,
        start=base.trained,
        anchors=base.places.anchors,
        shape=tuple(base.data.x.shape[1:]),
        classes=len(base.data.classes),
        objective=CrossEntropy if base.data.graph is None else NodeCrossEntropy,
    )
    made = (
        [Stage(replace(fedavg(task), name=REFERENCE), 0)]
        if method == REFERENCE
        else stages(method, task, record.options)
    )
    if parted:
        check(made[0].method)
    if method == REFERENCE:
        record = replace(record, rounds=0)
    return replace(assemble(record, base, made[0].method, seed), later=tuple(made[1:]))


def in_blocks(record: Federation, method: str, seed: int) -> Ground:
    """Prepare a run of which nobody has the whole: a model of shapes alone; nothing wide is drawn.

    Raises:
        ValueError: for what needs the whole, with the remedy.
    """
    check_blocks(record, method)
    net = record.net
    small = replace(net, hidden=(2,) * len(net.hidden))
    base = ground(replace(record, net=small), seed)
    with torch.device("meta"):
        model = network(net, base.data.x.shape[1:], len(base.data.classes), seed)
    return replace(base, net=model, trained=model.params, common=None)


def assemble(record: Federation, base: Ground, method: Method, seed: int) -> Built:
    """Open the rows of every worker, through the method's view."""
    rows_of = opener(base.data)
    train = {w: rows_of(TRAIN, rows) for w, rows in base.places.train.items()}
    open_rows: Open = train.__getitem__
    groups = {
        name: {w: rows_of(name, rows) for w, rows in group.items()}
        for name, group in base.places.groups.items()
    }
    first = method.first or method.model.params
    if record.engine not in BLOCKS:  # whose whole is nowhere
        method = replace(method, first={n: t.to(record.device) for n, t in first.items()})
    if method.view is not None:
        open_rows = Seen(open_rows, method.view)
        seen = {name: Seen(group.__getitem__, method.view) for name, group in groups.items()}
        groups = {name: {w: seen[name](w) for w in group} for name, group in groups.items()}
    size = min(record.turnout.size, len(train))
    return Built(
        method=method,
        rounds=record.rounds,
        open=open_rows,
        groups=groups,
        anchors=base.places.anchors,
        num_seen=len(train),
        num_unseen=len(groups.get("unseen", {})),
        per_round=size,
        seen_counts=table_of(base, base.places.train),
        unseen_counts=table_of(base, base.places.groups.get("unseen", {})),
        classes=base.data.classes,
        shape=tuple(base.data.x.shape[1:]),
        scale=base.scale,
        reached=base.reached,
        columns=base.data.columns,
        fingerprint=base.fingerprint,
        sample=some_of(open_rows, sorted(train), SOME, seed),
        inputs=0 if base.data.graph is None else base.data.graph.inputs,
    )


def table_of(base: Ground, hands: Mapping[int, Tensor]) -> list[list[int]]:
    """Count rows per class and worker, for populations small enough to list."""
    if len(hands) > LISTED or not hands or base.data.y is None or base.data.y.ndim > 1:
        return []
    if base.data.graph is not None:  # every worker learns from the same labelled nodes
        learnt = base.data.graph.train.nonzero()[:, 0]
        hands = dict.fromkeys(hands, learnt)
    return counts(base.data.y.cpu(), list(hands.values()), len(base.data.classes))
