"""Data parallelism: whole models everywhere, whose gradients are averaged at every step."""

from __future__ import annotations

from dataclasses import replace

from torch import Generator

from moiety.core.protocols import Method
from moiety.methods.demo import Demo, two_classes
from moiety.methods.fedavg import fedavg
from moiety.methods.task import Task
from moiety.server.descend import Descend

STRIDE = 32.0
"""Learning rate of the workers' step, which the server takes back. Parameters are rounded after
the step, so a long one keeps more digits of the gradient; a power of two costs none.
"""


def data_parallel(task: Task) -> Method:
    """Average the gradients of all workers at every step; a round is one step.

    The optimiser of ``task.local`` lives at the server (momentum and all), so a run is what one
    machine with a batch as large as those of all workers would do. To make as many steps as a
    method with local steps, it needs as many ``rounds`` as rounds times ``local.steps`` there.
    """
    local = replace(
        task.local, optimizer="sgd", lr=STRIDE, momentum=0.0, nesterov=False, weight_decay=0.0,
        clip=0.0, epochs=0, steps=1, schedule="constant", moments="reset",
    )  # fmt: skip
    rule, course = task.local.rule(), task.local.course(task.rounds)
    outer = Descend(rule, STRIDE, course, task.local.clip or None)
    return replace(fedavg(replace(task, local=local)), name="data_parallel", outer=outer)


def demo(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes, a step a round."""
    task, data = two_classes(rng)
    return Demo(data_parallel(replace(task, local=replace(task.local, lr=0.3))), data)
