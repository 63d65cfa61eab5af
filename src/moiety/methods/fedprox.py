"""Federated averaging whose workers stay near what they were sent.

Li et al., *Federated Optimization in Heterogeneous Networks*, arXiv:1812.06127.
"""

from dataclasses import replace

from torch import Generator

from moiety.core.protocols import Method
from moiety.methods.demo import Demo, make_two_class_workers
from moiety.methods.fedavg import fedavg
from moiety.methods.task import Task
from moiety.tasks.objectives import Proximal


def fedprox(task: Task, *, mu: float = 0.1) -> Method:
    """Train the whole model with a proximal term and average.

    Args:
        task: what is to be learnt.
        mu: weight of half the squared distance to the model that was sent.
    """
    solve = replace(task.make_solver(), terms=(Proximal(mu),))
    return replace(fedavg(task), name="fedprox", solve=solve)


def demo(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes."""
    task, data = make_two_class_workers(rng)
    return Demo(fedprox(task), data)
