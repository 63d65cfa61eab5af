"""Data parallelism: whole models everywhere, whose gradients are averaged at every step."""

from __future__ import annotations

from dataclasses import replace

from torch import Generator

from moiety.core.protocols import Method
from moiety.methods.demo import Demo, make_two_class_workers
from moiety.methods.fedavg import fedavg
from moiety.methods.task import Task
from moiety.server.gradient import GradientServer

WORKER_LR = 32.0
"""Learning rate of the workers' step, which the server takes back. Parameters are rounded after
the step, so a long one keeps more digits of the gradient; a power of two costs none.
"""


def data_parallel(task: Task) -> Method:
    """Average the gradients of all workers at every step; a round is one step.

    The optimiser of ``task.local`` lives at the server (momentum and all), so a run is what one
    machine with a batch as large as those of all workers would do. To make as many steps as a
    method with local steps, it needs as many ``rounds`` as rounds times ``local.steps`` there.
    """
    local = task.local.choose(
        optimizer="sgd", lr=WORKER_LR, momentum=0.0, nesterov=False, weight_decay=0.0,
        clip=0.0, epochs=0, steps=1, lr_schedule="constant", optimizer_state="reset",
    )  # fmt: skip
    rule, course = task.local.make_rule(), task.local.make_lr_schedule(task.rounds)
    server = GradientServer(rule, WORKER_LR, course, task.local.clip or None)
    return replace(fedavg(replace(task, local=local)), name="data_parallel", server=server)


def demo(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes, a step a round."""
    task, data = make_two_class_workers(rng)
    return Demo(data_parallel(replace(task, local=replace(task.local, lr=0.3))), data)
