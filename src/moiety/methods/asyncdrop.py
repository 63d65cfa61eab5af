"""AsyncDrop: every job leaves out a quarter of the units; meant for servers that do not wait.

Dun et al., *Efficient and Light-Weight Federated Learning via Asynchronous Distributed Dropout*,
arXiv:2210.16105. That the server commits at each reply and goes half the way is a choice of the
run: ``Schedule("buffered", size=1, rate=0.5)``.
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
from moiety.split.scored import Scored


def asyncdrop(
    task: Task, *, drop: float = 0.25, hetero: bool = True, shared: tuple[str, ...] = ()
) -> Method:
    """Send each worker all but a share of the units of every axis.

    Args:
        task: what is to be learnt; the axes of its model are cut.
        drop: share of every axis that a job leaves out.
        hetero: the faster a worker's last job was, the more its dropped units have moved from
            their first values; else, and while its speed is not known, they are random.
        shared: patterns of axes that are never cut.
    """
    axes, sizes = task.model.axes, read_axis_lengths(task.model.params, task.model.axes)
    cuts = {axis: sizes[axis] for axis in choose_axes(task, shared)}
    first = task.start or task.model.params
    split = Scored(cuts, axes, first, drop, hetero)
    kept = {axis: (size - min(round(drop * size), size - 1)) / size for axis, size in cuts.items()}
    return replace(
        fedavg(task),
        name="asyncdrop",
        split=split,
        calibrate=task.make_calibration(kept),
    )


def demo(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes, without a quarter of the hidden units."""
    task, data = make_two_class_workers(rng)
    return Demo(asyncdrop(replace(task, model=mlp((8, 16, 6), stream(0, "net")))), data)
