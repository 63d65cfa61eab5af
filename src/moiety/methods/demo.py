"""The smallest honest problem on which a method must learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from moiety.core.protocols import Method
from moiety.core.rows import Rows, TableRows
from moiety.methods.task import LocalTraining, Task
from moiety.models.gated import common_expert
from moiety.models.mlp import mlp
from moiety.tasks.classes import Classes


@dataclass(frozen=True)
class Demo:
    """A method and the rows of its workers; all workers can take part in every round."""

    method: Method
    data: Mapping[int, Rows]


CENTRES = 6
WORKERS = 6
NAMES = tuple(f"blob {place}" for place in range(CENTRES))


def draw_blobs(rng: Generator, rows: int = 360) -> tuple[Tensor, Tensor]:
    """Draw points around six centres in eight dimensions, [rows, 8]; the label is the centre."""
    centre = torch.randn(CENTRES, 8, generator=rng) * 1.5
    y = torch.arange(rows) % CENTRES
    return centre[y] + torch.randn(rows, 8, generator=rng) * 0.7, y


def make_similar_workers(rng: Generator) -> tuple[Task, Mapping[int, Rows]]:
    """Give blobs to six workers of unequal size that all have all classes."""
    x, y = draw_blobs(rng)
    order = torch.randperm(len(y), generator=rng)
    table = {"x": x, "y": y}
    data: dict[int, Rows] = {
        worker: TableRows(table, order[worker::WORKERS][: 35 + 5 * worker])
        for worker in range(WORKERS)
    }
    net = mlp((8, 6, CENTRES), rng)
    local = LocalTraining(lr=0.1, batch=16, epochs=2)
    return Task(net, local, rounds=10, objective=Classes(NAMES)), data


def make_two_class_workers(rng: Generator) -> tuple[Task, Mapping[int, Rows]]:
    """Give blobs to six workers of unequal size with two classes each; three are anchors."""
    x, y = draw_blobs(rng)
    data: dict[int, Rows] = {}
    for worker in range(WORKERS):
        first = (2 * worker) % CENTRES if worker < 3 else worker - 3
        second = (first + 1) % CENTRES
        mine = ((y == first) | (y == second)).nonzero()[:, 0]
        data[worker] = TableRows({"x": x, "y": y}, mine[worker::2][: 31 + 5 * worker])
    net = mlp((8, 6, CENTRES), rng)
    common = common_expert(net, net.params, x)
    local = LocalTraining(lr=0.1, batch=16, epochs=2)
    anchors = {0: 0, 1: 1, 2: 2}
    objective = Classes(NAMES)
    return Task(net, local, rounds=10, common=common, anchors=anchors, objective=objective), data
