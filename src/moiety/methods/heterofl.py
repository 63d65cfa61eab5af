"""HeteroFL: workers of unequal means train nested parts of one model, each of its own width.

Diao et al., *HeteroFL: Computation and Communication Efficient Federated Learning for
Heterogeneous Clients*, arXiv:2010.01264.
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
from moiety.split.nested import Nested, Widths


def heterofl(
    task: Task, *, widths: tuple[float, ...] = (1.0, 0.5, 0.25), shared: tuple[str, ...] = ()
) -> Method:
    """Give each worker the first units of every layer, as many as it can hold.

    Statistics of norms are found on the server's sample of training rows (the paper's static
    batch norm asks every worker). The paper's scaler, which multiplies the activations of narrow
    parts in training, and its masked cross-entropy are left out. Prefer a model without norms
    where workers' classes differ.

    Args:
        task: what is to be learnt; the axes of its model are cut.
        widths: shares of every axis that workers hold, given to them in turns.
        shared: patterns of axes that are never cut.
    """
    sizes, width = read_axis_lengths(task.model.params, task.model.axes), Widths(widths)
    axes = choose_axes(task, shared)
    return replace(
        fedavg(task),
        name="heterofl",
        split=Nested({axis: sizes[axis] for axis in axes}, width),
        calibrate=task.make_calibration(dict.fromkeys(axes, width.mean)),
    )


def demo(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes, with parts of three widths."""
    task, data = make_two_class_workers(rng)
    return Demo(heterofl(replace(task, model=mlp((8, 24, 6), stream(0, "net")))), data)
