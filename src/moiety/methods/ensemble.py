"""Several federated averages beside each other, whose probabilities are averaged.

Lakshminarayanan, Pritzel and Blundell, *Simple and Scalable Predictive Uncertainty Estimation using
Deep Ensembles*, arXiv:1612.01474; a rival in arXiv:2306.08586, table 1.
"""

from dataclasses import replace

from torch import Generator

from moiety.core.protocols import Method, skip_calibration
from moiety.methods.demo import Demo, make_two_class_workers
from moiety.methods.fedavg import fedavg
from moiety.methods.several import ALL_MODELS, draw_components, make_component_solver
from moiety.methods.task import Task
from moiety.serve.mixed import Mixed
from moiety.solve.components import LossesAlone
from moiety.split.whole import Whole


def ensemble(task: Task, *, models: int = 2) -> Method:
    """Train several models at every worker, each as FedAvg does, and average what they say.

    They start at values drawn apart, never as the common expert: on the same rows in the same
    order they would stay one model.

    Args:
        task: what is to be learnt.
        models: how many.
    """
    model = draw_components(task, "ensemble", models)
    return replace(
        fedavg(task),
        name="ensemble",
        model=model,
        split=Whole(ALL_MODELS),
        solve=make_component_solver(task, model, LossesAlone(model, task.objective)),
        serve=Mixed(model, task.objective),
        calibrate=skip_calibration,
        first=None,
    )


def demo(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes."""
    task, data = make_two_class_workers(rng)
    return Demo(ensemble(task), data)
