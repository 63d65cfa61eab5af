"""Per-FedAvg: average a model of which one step at a worker makes a good one.

Fallah, Mokhtari and Ozdaglar, *Personalized Federated Learning: A Meta-Learning Approach*,
arXiv:2002.07948, algorithm 1 with the first-order approximation.
"""

import math
from dataclasses import replace

from torch import Generator

from moiety.core.protocols import Method
from moiety.methods.demo import Demo, make_two_class_workers
from moiety.methods.fedavg import fedavg
from moiety.methods.task import Task
from moiety.solve.meta import AdaptedLosses


def perfedavg(task: Task, *, alpha: float = 0.01) -> Method:
    """Train the whole model for what it is after one step of its own, and average.

    Each half of a batch is scored by the model after a step on the other half. A worker is served
    with the averaged model as it is, without labels; with labels, one step more makes it its own.

    Args:
        task: what is to be learnt.
        alpha: rate of the step within.
    """
    if not 0 <= alpha < math.inf:
        raise ValueError(f"perfedavg.{alpha=}; choose a finite number of at least 0")
    if task.model.buffers or task.model.draws_noise or task.model.uses_batch_statistics:
        raise ValueError(
            "perfedavg takes a step within a step, and the network has statistics or noise of a "
            "batch; choose one without (mlp, cnn)"
        )
    losses = AdaptedLosses(task.losses(task.objective, task.model.forward), alpha)
    solve = task.local.make_solver({"": losses}, task.rounds, model=task.model)
    return replace(fedavg(task), name="perfedavg", solve=solve)


def demo(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes."""
    task, data = make_two_class_workers(rng)
    return Demo(perfedavg(replace(task, local=replace(task.local, batch=32))), data)
