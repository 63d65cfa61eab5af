"""What independent subnets are measured against: whole models at every worker.

Data parallelism averages gradients at every step, local SGD averages models every few steps, and
DiLoCo lets an optimiser at the server take the averaged step (Douillard et al., arXiv:2311.08105).
"""

from __future__ import annotations

from dataclasses import replace

from torch import Generator

from moiety.core.protocols import Method
from moiety.methods.demo import Demo, two_classes
from moiety.methods.fedavg import fedavg
from moiety.methods.task import Task
from moiety.outer.descend import Descend
from moiety.outer.fedopt import Momentum, Outer


def data_parallel(task: Task) -> Method:
    """Average the gradients of all workers at every step; a round is one step.

    The optimiser of ``task.local`` lives at the server (momentum and all), so a run is what one
    machine with a batch as large as those of all workers would do.
    """
    local = replace(
        task.local, optimizer="sgd", momentum=0.0, nesterov=False, weight_decay=0.0, clip=0.0,
        epochs=0, steps=1, schedule="constant", moments="reset",
    )  # fmt: skip
    rule, course = task.local.rule(), task.local.course(task.rounds)
    outer = Descend(rule, local.lr, course, task.local.clip or None)
    return replace(fedavg(replace(task, local=local)), name="data_parallel", outer=outer)


def local_sgd(task: Task) -> Method:
    """Train the whole model everywhere for some steps, then average: federated averaging."""
    return replace(fedavg(task), name="local_sgd")


def diloco(task: Task, *, outer_lr: float = 0.7, outer_momentum: float = 0.9) -> Method:
    """Train with AdamW, whose moments stay at the worker; the server steps with Nesterov momentum.

    Args:
        task: what is to be learnt.
        outer_lr: of the server; 1 without momentum is local SGD.
        outer_momentum: of the server.
    """
    local = replace(task.local, optimizer="adamw", moments="keep")
    outer = Outer(Momentum(outer_lr, outer_momentum, nesterov=True))
    return replace(fedavg(replace(task, local=local)), name="diloco", outer=outer)


def demo_data_parallel(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes, a step a round."""
    task, data = two_classes(rng)
    return Demo(data_parallel(replace(task, local=replace(task.local, lr=0.3))), data)


def demo_local_sgd(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes."""
    task, data = two_classes(rng)
    return Demo(local_sgd(task), data)


def demo_diloco(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes."""
    task, data = two_classes(rng)
    return Demo(diloco(replace(task, local=replace(task.local, lr=0.01))), data)
