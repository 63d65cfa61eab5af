"""Independent subnet training of residual networks: assign whole blocks, afresh each round.

Dun, Wolfe, Jermaine and Kyrillidis, *ResIST: Layer-Wise Decomposition of ResNets for Distributed
Training*, arXiv:2107.00961.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import torch
from torch import Generator, Tensor

from moiety.core.axes import read_axis_lengths
from moiety.core.protocols import Method
from moiety.core.rows import Rows, TableRows
from moiety.core.streams import stream
from moiety.methods.demo import Demo, make_similar_workers
from moiety.methods.ist import make_subnet_method, match_axes
from moiety.methods.task import Task
from moiety.models.residual import DEPTH, ResidualForm
from moiety.models.resnet import resnet
from moiety.split.assigned import Assignment, Quota


@dataclass(frozen=True)
class Scatter:
    """Give every index to one worker, where a worker may get none."""

    def __call__(self, size: int, num: int, rng: Generator, /) -> list[Tensor]:
        order, turn = torch.randperm(size, generator=rng), torch.randperm(num, generator=rng)
        return [order[place::num].sort().values for place in turn.tolist()]

    def share(self, size: int, num: int, /) -> float:
        del size
        return 1 / num


def resist(
    task: Task,
    *,
    least: int = 4,
    assigned: tuple[str, ...] = (DEPTH,),
    scale: float = 0.0,
    fresh: bool = True,
) -> Method:
    """Give each worker some residual blocks of the longest section; the rest is everyone's.

    A subnet has max(ceil(blocks / workers), least) blocks. In use, every assigned branch is scaled
    by the share of the blocks that a subnet had.

    Args:
        task: what is to be learnt; its model has an axis ``depth`` (a ``resnet`` cut along it).
        least: blocks in a subnet at least; 4 is the paper's traffic, 1 assigns every block once.
        assigned: patterns of the assigned axes. The paper's ablations: other sections (``depth*``)
            and strided blocks (``strided*``) as well, which costs accuracy.
        scale: of the branches in use; 0 for the share of the blocks in a subnet, 1 for none.
        fresh: assign anew each round; without, the subnets of the first round stay (an ablation).
    """
    sizes = read_axis_lengths(task.model.params, task.model.axes)
    if not any(fnmatchcase(axis, pattern) for axis in sizes for pattern in assigned):
        raise ValueError(
            f"no axis fits resist.assigned={tuple(assigned)}: the model has {sorted(sizes)}; use a "
            "network with stacked blocks (--net resnet --resnet.cut depth)"
        )
    found = match_axes(sizes, assigned, "assigned")
    # A strided branch is alone on its axis, so that somebody must go without.
    assignments: Mapping[str, Assignment] = {
        axis: Scatter() if axis.startswith("strided") else Quota(least=least) for axis in found
    }
    made = make_subnet_method(task, "resist", assignments, fresh=fresh, calibrate=not scale)
    return scale_method(made, task, found, scale)


def scale_method(method: Method, task: Task, axes: Sequence[str], scale: float) -> Method:
    """Scale branches in use by one number, if it is not 0."""
    if not 0 <= scale <= 1:
        raise ValueError(f"{scale=}; choose 0 (the share of a subnet) to 1 (no scaling)")
    if not scale:
        return method
    return replace(method, calibrate=task.make_calibration(dict.fromkeys(axes, scale)))


def make_image_workers(
    rng: Generator, form: ResidualForm, cut: str
) -> tuple[Task, Mapping[int, Rows]]:
    """Give blobs of eight numbers as images of 8x1x1 to workers alike, and a residual network."""
    task, data = make_similar_workers(rng)
    model = resnet((8, 1, 1), 6, stream(0, "net"), form, cut=cut)
    images = {
        worker: TableRows({**rows.table, "x": rows.table["x"][:, :, None, None]}, rows.index)
        for worker, rows in data.items()
        if isinstance(rows, TableRows)
    }
    # All rows in a batch: a short last one would leave batch norm two or three numbers.
    local = replace(task.local, lr=0.05, batch=64, epochs=6)
    return replace(task, model=model, local=local, workers=len(data)), images


def demo(rng: Generator) -> Demo:
    """Learn blobs with six residual blocks, two to a worker."""
    task, data = make_image_workers(rng, ResidualForm((6,), (8,)), DEPTH)
    return Demo(resist(task, least=2), data)
