"""A recipe's run without its numbers: who takes part in its first round, with which rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from moiety.core.rows import Rows, all_rows
from moiety.data.dataset import Dataset
from moiety.methods.task import Task
from moiety.models.base import Base
from moiety.models.gated import Common, common_expert
from moiety.plan.abstract import META, Shapes
from moiety.recipes.build import read_data
from moiety.recipes.graphs import TRAIN, check_graph, cluster, opener, place_graph
from moiety.recipes.nets import NETS, check_fit, check_kind, network
from moiety.recipes.pacing import check_pace
from moiety.recipes.population import Places, place
from moiety.recipes.record import Federation
from moiety.tasks.objectives import CrossEntropy, NodeCrossEntropy

Choose = Callable[[Places], Sequence[int]]
"""Who takes part in the first round."""


@dataclass(frozen=True)
class Outline:
    """A recipe's run, without its numbers.

    Args:
        task: whose model, and common expert, have shapes alone.
        rows: of each worker of a round.
        record: the recipe.
        seed: of the run.
        known: whether it is known who is an anchor; k-means finds them by a trained expert.
    """

    task: Task
    rows: Mapping[int, Rows]
    record: Federation
    seed: int
    known: bool = True

    @property
    def graph(self) -> bool:
        """Whether rows are clusters of a graph."""
        return self.task.objective is NodeCrossEntropy

    def numbers(self) -> Task:
        """Make the task with numbers, to measure with; its common expert is not trained."""
        task = self.task
        net = network(self.record.net, task.shape, task.classes, self.seed)
        if task.common is None:
            return replace(task, model=net)
        x = all_rows(next(iter(self.rows.values())), 64)["x"]
        return replace(task, model=net, common=common_expert(net, net.params, x))


def outline(record: Federation, seed: int, choose: Choose | None = None) -> Outline:
    """Read the data and lay out the task; no model is allocated, no common expert trained.

    Args:
        record: the recipe.
        seed: of the run.
        choose: who takes part; by default the first workers, as many as a round has.
    """
    check_kind(record.net)
    data = cluster(read_data(record.data, record.target), record.graph)
    check_graph(record, data.graph)
    check_fit(record.net, data.x)
    graph, population = data.graph, record.population
    places = place_graph(data, graph, population) if graph else place(data, population, seed)
    if not NETS[record.net.kind].shaped:
        data = replace(data, x=data.x.flatten(1))
    size, count = min(record.turnout.size, len(places.train)), population.anchors
    check_pace(record, size, anchors=bool(places.anchors))
    roster = choose(places) if choose else sorted(places.train)[:size]
    with torch.device(META):
        net = network(record.net, data.x.shape[1:], len(data.classes), seed)
    task = Task(
        net, record.local, record.rounds, size, seed,
        common=common_of(net, data) if len(places.public) else None,
        anchors=places.anchors, shape=tuple(data.x.shape[1:]), classes=len(data.classes),
        objective=NodeCrossEntropy if graph else CrossEntropy,
    )  # fmt: skip
    opened = opener(data)
    rows = {worker: opened(TRAIN, places.train[worker]) for worker in roster}
    return Outline(task, rows, record, seed, known=not count or bool(places.anchors))


def common_of(net: Base, data: Dataset) -> Common:
    """Shape the common expert; of two rows, for a norm knows no statistics of one."""
    with Shapes():
        rows = torch.empty((2, *data.x.shape[1:]), dtype=data.x.dtype, device=META)
        return common_expert(net, net.params, rows)
