"""FjORD: ordered dropout; each job trains a width drawn from those that its worker can hold.

Horvath et al., *FjORD: Fair and Accurate Federated Learning under heterogeneous targets with
Ordered Dropout*, arXiv:2102.13451.
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


def fjord(
    task: Task,
    *,
    widths: tuple[float, ...] = (1.0, 0.75, 0.5, 0.25),
    shared: tuple[str, ...] = (),
) -> Method:
    """Give each job the first units of every layer: one of the widths, up to the worker's own.

    The paper draws a width for every step, and distils the widest part into the narrower one;
    here a job has one width, so that only its slice is sent, and nothing is distilled. The paper
    keeps batch norms of its own for each width; here they are shared, so prefer a model without.

    Args:
        task: what is to be learnt; the axes of its model are cut.
        widths: shares of every axis; the widest of each worker, in turns, and those drawn.
        shared: patterns of axes that are never cut.
    """
    sizes, width = read_axis_lengths(task.model.params, task.model.axes), Widths(widths)
    axes = choose_axes(task, shared)
    below = [[one for one in widths if one <= most] for most in widths]
    mean = sum(sum(some) / len(some) for some in below) / len(below)
    return replace(
        fedavg(task),
        name="fjord",
        split=Nested({axis: sizes[axis] for axis in axes}, width, widths),
        calibrate=task.make_calibration(dict.fromkeys(axes, mean)),
    )


def demo(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes, with parts of drawn widths."""
    task, data = make_two_class_workers(rng)
    local = replace(task.local, epochs=1)
    model = mlp((8, 48, 6), stream(0, "net"))
    return Demo(fjord(replace(task, model=model, local=local)), data)
