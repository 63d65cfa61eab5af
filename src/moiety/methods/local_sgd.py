"""Local SGD: whole models everywhere, which are averaged every few steps.

Stich, *Local SGD Converges Fast and Communicates Little*, arXiv:1805.09767.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Generator

from moiety.core.protocols import Method
from moiety.methods.demo import Demo, make_two_class_workers
from moiety.methods.fedavg import fedavg
from moiety.methods.task import Task


def local_sgd(task: Task) -> Method:
    """Train the whole model everywhere for some steps, then average: federated averaging."""
    return replace(fedavg(task), name="local_sgd")


def demo(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes."""
    task, data = make_two_class_workers(rng)
    return Demo(local_sgd(task), data)
