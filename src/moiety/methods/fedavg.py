"""Federated averaging: everyone trains the whole model, the server averages.

McMahan et al., *Communication-Efficient Learning of Deep Networks from Decentralized Data*,
arXiv:1602.05629.
"""

from torch import Generator

from moiety.core.protocols import Method
from moiety.methods.demo import Demo, make_two_class_workers
from moiety.methods.task import Task
from moiety.models.base import find_constants
from moiety.serve.choose import Plain
from moiety.split.whole import Whole


def fedavg(task: Task) -> Method:
    """Train the whole model at every worker and average."""
    return Method(
        name="fedavg",
        model=task.model,
        split=Whole(),
        solve=task.make_solver(),
        merge=task.choose_merge(),
        serve=Plain(task.model, task.objective),
        calibrate=task.make_calibration(),
        first=task.start,
        constants=find_constants(task.model),
    )


def demo(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes."""
    task, data = make_two_class_workers(rng)
    return Demo(fedavg(task), data)
