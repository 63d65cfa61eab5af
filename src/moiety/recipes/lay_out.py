"""What is to be learnt, before anything is trained: to see whether a method's options fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from moiety.methods.task import Task
from moiety.models.base import FeatureModel, Teachable
from moiety.recipes.common import freeze_common
from moiety.recipes.options import make_network
from moiety.recipes.prepare import SeedData
from moiety.recipes.record import Federation


def lay_out_task(record: Federation, base: SeedData, net: FeatureModel, seed: int) -> Task:
    """Lay out what is to be learnt, as it is before a common expert is trained."""
    places = base.places
    workers = min(record.participation.size, len(places.train))
    return Task(
        model=net,
        local=record.local,
        rounds=record.rounds,
        workers=workers,
        population=workers if record.participation.fixed else len(places.train),
        seed=seed,
        start=net.params,
        anchors=places.anchors,
        shape=tuple(base.kind.shape(base.data)),
        classes=base.objective.outputs,
        objective=base.objective,
        losses=base.kind.losses,
    )


def rehearse(task: Task, base: SeedData, anchors: Mapping[int, int]) -> Task:
    """Give a task the untrained network as common expert, and some workers as anchors."""
    if isinstance(task.model, Teachable):
        return replace(task, anchors=anchors)
    with torch.no_grad():
        rows = base.opened.x[base.places.public[:2]]
        common = freeze_common(task.model, task.model.params, rows)
    return replace(task, common=common, anchors=anchors)


def outline_network(record: Federation, base: SeedData, seed: int) -> FeatureModel:
    """Make a network of shapes alone, for a run of which nobody has the whole."""
    with torch.device("meta"):
        shape, classes = base.kind.shape(base.data), base.objective.outputs
        return make_network(record.net, record.options, shape, classes, seed)
