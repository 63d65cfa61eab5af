"""FedEM: every worker's data are a mixture of a few distributions, with weights of its own.

Marfoq et al., *Federated Multi-Task Learning under a Mixture of Distributions*, arXiv:2108.10252,
algorithm 1; and Guo, Tang, Lin, *FedRC: Tackling Diverse Distribution Shifts Challenge in Federated
Learning by Robust Clustering*, arXiv:2301.12379.
"""

from dataclasses import replace

from torch import Generator

from moiety.core.protocols import Method, skip_calibration
from moiety.methods.demo import Demo, make_two_class_workers
from moiety.methods.fedavg import fedavg
from moiety.methods.several import (
    ALL_MODELS,
    MODELS_AND_LABELS,
    draw_components,
    make_component_solver,
)
from moiety.methods.task import Task
from moiety.models.components import MIX
from moiety.serve.mixed import Mixed
from moiety.solve.components import MixtureLosses, weigh_by_rows_held
from moiety.split.whole import Whole


def fedem(task: Task, *, models: int = 3, robust: bool = False) -> Method:
    """Train a mixture of models, whose weights each worker keeps and sets by its own rows.

    A step descends on the likelihood of the worker's mixture, so each row weighs a model by how
    likely it is that this model answers for it: the E-step at the model as it is, where the paper
    keeps that of the round's beginning. After the last step the weights are the means of these
    shares over all rows. A worker that was never seen, without labels, mixes all models equally.

    Args:
        task: what is to be learnt.
        models: how many; all of them travel.
        robust: FedRC: a model's likelihood of a row is over the share of the row's class in all
            rows that it answers for, so that models part by what inputs mean and not by which
            classes a worker has. These shares travel, and are those of the last round's workers.

    Raises:
        ValueError: for ``robust`` where there are no classes.
    """
    labels = (task.objective.outputs or task.classes) if robust else 0
    if robust and not (labels and task.objective.categorical):
        raise ValueError(
            f"fedem.robust divides by shares of classes, but the task is {task.objective.name} "
            f"of {labels}; leave it out"
        )
    model = draw_components(task, "fedem", models, labels=labels)
    solve = make_component_solver(task, model, MixtureLosses(model, task.objective))
    solve = replace(solve, own={MIX: model.params[MIX]})
    return replace(
        fedavg(task),
        name="fedem",
        model=model,
        split=Whole(MODELS_AND_LABELS if robust else ALL_MODELS),
        solve=weigh_by_rows_held(solve, model, task.objective),
        serve=Mixed(model, task.objective),
        calibrate=skip_calibration,
        first=None,
    )


def demo(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes."""
    task, data = make_two_class_workers(rng)
    return Demo(fedem(task, models=2), data)
