"""SCAFFOLD: federated averaging whose workers know how their gradients differ from all others'.

Karimireddy et al., *SCAFFOLD: Stochastic Controlled Averaging for Federated Learning*,
arXiv:1910.06378.
"""

from dataclasses import replace

from torch import Generator

from moiety.core.protocols import Method
from moiety.methods.demo import Demo, make_two_class_workers
from moiety.methods.fedavg import fedavg
from moiety.methods.task import Task
from moiety.ops.optim import SGD
from moiety.solve.control import CONTROL, control_drift

CANNOT = {
    "losses_fall": (
        "a worker descends on the mean loss of all workers, but reports that on its own rows, "
        "which need not fall: with two classes of six it is lowest where the others' are forgotten"
    ),
}


def scaffold(task: Task) -> Method:
    """Train the whole model with control variates and average.

    A worker keeps its own control variate, as large as the model; the server's travels with the
    model, both ways.

    Args:
        task: what is to be learnt, by SGD; ``population`` says over how many workers the server's
            control variate is a mean.
    """
    local, rule = task.local, task.local.make_rule()
    if not isinstance(rule, SGD) or local.optimizer_state != "reset" or local.by_rows:
        raise ValueError(
            "scaffold reads a worker's mean gradient off what its steps changed, and weighs all "
            f"workers alike: local.optimizer={local.optimizer!r}, "
            f"local.optimizer_state={local.optimizer_state!r}, local.by_rows={local.by_rows}; use "
            "'sgd', 'reset' and False"
        )
    if task.population < 1:
        raise ValueError(
            f"{task.population=}, but scaffold's control variate is a mean over all workers; say "
            "how many may take part: Task(..., population=24)"
        )
    return replace(
        fedavg(task),
        name="scaffold",
        solve=control_drift(task.make_solver(), rule),
        worker_means={CONTROL: task.population},
    )


def demo(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes."""
    task, data = make_two_class_workers(rng)
    return Demo(scaffold(replace(task, population=len(data))), data)
