"""Ditto: FedAvg, and beside it a model for each worker that stays near the shared one.

Li et al., *Ditto: Fair and Robust Federated Learning Through Personalization*, arXiv:2012.04221,
algorithm 1.
"""

import math
from dataclasses import replace

from torch import Generator

from moiety.core.axes import Part
from moiety.core.protocols import Method, skip_calibration
from moiety.methods.demo import Demo, make_two_class_workers
from moiety.methods.fedavg import fedavg
from moiety.methods.task import Task
from moiety.models.personal import TRAINED, name_own, share_and_own
from moiety.serve.choose import Plain
from moiety.solve.personal import BothLosses, NearShared, train_own
from moiety.split.whole import Whole
from moiety.tasks.objectives import Term


def ditto(task: Task, *, lam: float = 0.1) -> Method:
    """Average one model, and let each worker train its own on the same batches, near to it.

    The shared model is FedAvg's to the bit. A worker that was never seen uses it; with ``lam=0``
    the workers' own models are local training alone, without any federation.

    Args:
        task: what is to be learnt.
        lam: weight of half the squared distance of a worker's model to the shared one it was sent.
    """
    if not 0 <= lam < math.inf:
        raise ValueError(f"ditto.{lam=}; choose a finite number of at least 0")
    return average_beside_own(task, "ditto", terms=(NearShared(lam),))


def average_beside_own(
    task: Task, name: str, *, terms: tuple[Term, ...] = (), own_share: float = 1.0
) -> Method:
    """Average one model as FedAvg does; beside it each worker trains one of its own.

    Args:
        task: what is to be learnt.
        name: of the method.
        terms: penalties on the worker's own model.
        own_share: of its own model in the one that a worker uses, and trains it for.

    Raises:
        ValueError: for a clip of gradients, whose norm would couple the two models.
    """
    if task.local.clip:
        raise ValueError(
            f"local.clip={task.local.clip} bounds the gradient of a worker's two models together; "
            "leave it out"
        )
    first = task.start or task.model.params
    model = share_and_own(task.model, first, own_share)
    losses = BothLosses(model, task.losses(task.objective, task.model.forward))
    frozen = (*model.buffers, TRAINED)
    solve = task.local.make_solver({"": losses}, task.rounds, model=task.model, frozen=frozen)
    own = {**name_own(first), TRAINED: model.params[TRAINED]}
    return replace(
        fedavg(task),
        name=name,
        model=model,
        split=Whole(Part(names=tuple(first))),
        solve=train_own(replace(solve, own=own, terms=terms)),
        serve=Plain(model, task.objective),
        calibrate=skip_calibration,
        first=None,
    )


def demo(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes."""
    task, data = make_two_class_workers(rng)
    return Demo(ditto(task), data)
