"""FedRolex: workers of unequal means train a window of every layer, which moves on each round.

Alam et al., *FedRolex: Model-Heterogeneous Federated Learning with Rolling Sub-Model Extraction*,
arXiv:2212.01548.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Generator

from moiety.core.axes import read_axis_lengths
from moiety.core.protocols import Method
from moiety.core.streams import stream
from moiety.methods.demo import Demo, make_two_class_workers
from moiety.methods.fedavg import fedavg
from moiety.methods.ist import choose_axes
from moiety.methods.task import Task
from moiety.models.mlp import mlp
from moiety.split.nested import Widths
from moiety.split.rolling import Rolling


def fedrolex(
    task: Task, *, widths: tuple[float, ...] = (1.0, 0.5, 0.25), shared: tuple[str, ...] = ()
) -> Method:
    """Give each worker as many units of every layer as it can hold, others in every round.

    Where no worker holds the whole, every unit is still trained in its turn. As with HeteroFL,
    statistics of norms are found on the server's sample of training rows, and the masked
    cross-entropy is left out.

    Args:
        task: what is to be learnt; the axes of its model are cut.
        widths: shares of every axis that workers hold, given to them in turns.
        shared: patterns of axes that are never cut.
    """
    sizes, width = read_axis_lengths(task.model.params, task.model.axes), Widths(widths)
    axes = choose_axes(task, shared)
    return replace(
        fedavg(task),
        name="fedrolex",
        split=Rolling({axis: sizes[axis] for axis in axes}, width),
        calibrate=task.make_calibration(dict.fromkeys(axes, width.mean)),
    )


def demo(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes, with parts of three widths."""
    task, data = make_two_class_workers(rng)
    return Demo(fedrolex(replace(task, model=mlp((8, 24, 6), stream(0, "net")))), data)
