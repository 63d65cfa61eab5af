"""IFCA: a few models, of which each worker trains the one that fits its rows best.

Ghosh et al., *An Efficient Framework for Clustered Federated Learning*, arXiv:2006.04088,
algorithm 1 with model averaging.
"""

from dataclasses import replace

from torch import Generator

from moiety.core.protocols import Method, Query, skip_calibration
from moiety.methods.demo import Demo, make_two_class_workers
from moiety.methods.fedavg import fedavg
from moiety.methods.several import ALL_MODELS, draw_components, make_component_solver
from moiety.methods.task import Task
from moiety.models.stacked import EXPERT
from moiety.serve.mixed import Surest
from moiety.solve.components import LeastLoss, LossesAlone
from moiety.split.gated import Gated

CANNOT = {
    "choices_need_no_labels": (
        "a worker names the model of the least loss on its labelled rows: that is the method"
    ),
}


def ifca(task: Task, *, models: int = 3) -> Method:
    """Send all models; each worker trains the one of the least loss on its rows.

    A new worker has no labels to tell by, and takes the model that is surest of its rows (of the
    least mean entropy), which the paper does not say.

    Args:
        task: what is to be learnt; classes.
        models: how many; all of them go down, one comes back.
    """
    if not task.objective.categorical:
        raise ValueError(
            f"ifca serves a new worker by the entropy of classes, but the task is "
            f"{task.objective.name}; take another method"
        )
    if task.local.optimizer_state == "keep":
        raise ValueError(
            "optimizer_state='keep' keeps what a worker has for a fixed part, but ifca gives "
            "another model as it likes; use 'reset' or 'send'"
        )
    model = draw_components(task, "ifca", models)
    return replace(
        fedavg(task),
        name="ifca",
        model=model,
        query=Query(LeastLoss(model, task.objective), ALL_MODELS),
        split=Gated(EXPERT, 1, size=models),
        solve=make_component_solver(task, model, LossesAlone(model, task.objective)),
        serve=Surest(model, task.objective),
        calibrate=skip_calibration,
        gated=EXPERT,
        first=None,
    )


def demo(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes."""
    task, data = make_two_class_workers(rng)
    return Demo(ifca(task), data)
