"""Assign the hidden features of a graph network, train the subnets alone, merge, assign again.

Wolfe et al., *GIST: Distributed Training for Large-Scale Graph Convolutional Networks*,
arXiv:2102.10424.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Generator

from moiety.core.axes import read_axis_lengths
from moiety.core.protocols import Method
from moiety.core.rows import Rows
from moiety.core.streams import stream
from moiety.data.graph import GraphRows, mirror_edges
from moiety.methods.demo import WORKERS, Demo, draw_blobs
from moiety.methods.ist import choose_axes, make_subnet_method
from moiety.methods.task import LocalTraining, Task
from moiety.models.graph import INPUTS, graphnet
from moiety.split.assigned import RoundRobin
from moiety.tasks.objectives import NodeLosses


def gist(task: Task, *, inputs: bool = False, fresh: bool = True) -> Method:
    """Give each worker a disjoint subnet of every hidden layer's features, and the whole graph.

    Local steps of a round (the paper's zeta) are ``local.steps``; the optimiser starts anew in
    every round unless ``local.optimizer_state`` says otherwise.

    Args:
        task: what is to be learnt; the model is a graph network.
        inputs: assign the input features too (an ablation).
        fresh: assign anew each round; without, the subnets of the first round stay (an ablation).

    Raises:
        ValueError: for any other model.
    """
    sizes = read_axis_lengths(task.model.params, task.model.axes)
    if INPUTS not in sizes:
        raise ValueError(
            f"no features of nodes to assign: the model has the axes {sorted(sizes)}; use a graph "
            "network (--net gcn or sage, on data with a graph), or --methods ist"
        )
    axes = choose_axes(task, () if inputs else (INPUTS,))
    return make_subnet_method(task, "gist", dict.fromkeys(axes, RoundRobin()), fresh=fresh)


def demo(rng: Generator) -> Demo:
    """Learn blobs whose nodes are joined by class, more often than not; six clusters a worker."""
    x, y = draw_blobs(rng, 120)
    near = y[:, None] == y[None]
    joined = torch.rand(len(y), len(y), generator=rng) < torch.where(near, 0.15, 0.01)
    edges = mirror_edges(joined.triu(1).nonzero().T)
    clusters = torch.arange(len(y)) // 20
    table = {"x": x, "y": y}
    data: Mapping[int, Rows] = {
        worker: GraphRows(table, edges, clusters, torch.arange(6)) for worker in range(WORKERS)
    }
    model = graphnet("gcn", (8, 96, 96, 6), stream(0, "net"))
    local = LocalTraining("adam", lr=0.01, batch=3, epochs=0, steps=6)
    task = Task(model, local, rounds=10, workers=len(data), losses=NodeLosses)
    return Demo(gist(task), data)
