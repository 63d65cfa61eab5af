"""A recipe's run without its numbers: who takes part in its first round, with which rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from moiety.core.rows import Rows, take_all_rows
from moiety.data.dataset import Dataset
from moiety.methods.task import Task
from moiety.models.base import FeatureModel
from moiety.models.gated import Common, common_expert
from moiety.plan.abstract import META, AbstractMode
from moiety.recipes.ahead import outline_ahead
from moiety.recipes.kinds import DataKind, read_rows
from moiety.recipes.loaded import open_common
from moiety.recipes.options import make_network
from moiety.recipes.population import TRAIN, Partition
from moiety.recipes.prepare import place_rows
from moiety.recipes.record import Federation
from moiety.recipes.schedule import check_schedule

ChooseCohort = Callable[[Partition], Sequence[int]]
"""Who takes part in the first round."""


@dataclass(frozen=True)
class AbstractRun:
    """A recipe's run, without its numbers.

    Args:
        task: whose model, and common expert, have shapes alone.
        rows: of each worker of a round.
        record: the recipe.
        seed: of the run.
        kind: of its data.
        known: whether it is known who is an anchor; k-means finds them by a trained expert.
    """

    task: Task
    rows: Mapping[int, Rows]
    record: Federation
    seed: int
    kind: DataKind
    known: bool = True

    def numbers(self) -> Task:
        """Make the task with numbers, to measure with; its common expert is not trained."""
        task = self.task
        record = self.record
        net = make_network(record.net, record.options, task.shape, task.classes, self.seed)
        if task.common is None:
            return replace(task, model=net)
        x = take_all_rows(next(iter(self.rows.values())), 64)["x"]
        return replace(task, model=net, common=common_expert(net, net.params, x))


def abstract_run(record: Federation, seed: int, choose: ChooseCohort | None = None) -> AbstractRun:
    """Read the data and lay out the task; no model is allocated, no common expert trained.

    Args:
        record: the recipe.
        seed: of the run.
        choose: who takes part; by default the first workers, as many as a round has.
    """
    kind, read = read_rows(record)
    _, places, data = place_rows(record, kind, read, seed, open_common(record.common))
    size, count = min(record.participation.size, len(places.train)), record.population.anchors
    check_schedule(record, size, anchors=bool(places.anchors))
    cohort = choose(places) if choose else sorted(places.train)[:size]
    objective = data.find_objective()
    with torch.device(META):
        net = make_network(record.net, record.options, kind.shape(data), objective.outputs, seed)
    task = Task(
        net, record.local, record.rounds, size, seed,
        common=abstract_common(net, data) if len(places.public) else None,
        anchors=places.anchors, shape=tuple(kind.shape(data)), classes=objective.outputs,
        objective=objective, losses=kind.losses,
        population=size if record.participation.fixed else len(places.train),
    )  # fmt: skip
    opened = kind.open(outline_ahead(kind, data))
    rows = {worker: opened(TRAIN, places.train[worker]) for worker in cohort}
    return AbstractRun(task, rows, record, seed, kind, known=not count or bool(places.anchors))


def abstract_common(net: FeatureModel, data: Dataset) -> Common:
    """Shape the common expert; of two rows, for a norm knows no statistics of one."""
    with AbstractMode():
        rows = torch.empty((2, *data.x.shape[1:]), dtype=data.x.dtype, device=META)
        return common_expert(net, net.params, rows)
