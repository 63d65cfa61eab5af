"""Federated averaging of the body; the head is each worker's own and never leaves it.

Arivazhagan et al., *Federated Learning with Personalization Layers*, arXiv:1912.00818.
"""

from dataclasses import replace
from fnmatch import fnmatchcase

from torch import Generator

from moiety.core.axes import Part
from moiety.core.protocols import Method
from moiety.core.types import Params
from moiety.methods.demo import Demo, make_two_class_workers
from moiety.methods.fedavg import fedavg
from moiety.methods.task import Task
from moiety.split.whole import Whole


def fedper(task: Task, *, head: tuple[str, ...] = ()) -> Method:
    """Share the body, keep the head.

    A worker that was never seen has no head of its own: it is served with the head's first
    values, so this method is for the workers it trains.

    Args:
        task: what is to be learnt.
        head: patterns of the parameters that stay; by default the last two that are trained
            (weight and bias of the last layer).
    """
    own = find_head(task, head)
    shared = tuple(name for name in task.model.params if name not in own)
    solve = replace(task.make_solver(), own=own)
    return replace(fedavg(task), name="fedper", split=Whole(Part(names=shared)), solve=solve)


def find_head(task: Task, head: tuple[str, ...]) -> Params:
    """Find the parameters that stay with a worker, and their first values.

    Args:
        task: what is to be learnt.
        head: patterns of their names; by default the last two that are trained.

    Raises:
        ValueError: if none stays, or none is shared.
    """
    names = list(task.model.params)
    patterns = head or tuple(name for name in names if name not in task.model.buffers)[-2:]
    own = [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
    if not 0 < len(own) < len(names):
        kept = "all parameters" if own else "no parameter"
        raise ValueError(
            f"{patterns} means {kept} of the network, and some are to stay with a worker while "
            f"others are shared; choose patterns that name some of {names[:12]}"
        )
    first = task.start or task.model.params
    return {name: first[name] for name in own}


def demo(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes."""
    task, data = make_two_class_workers(rng)
    return Demo(fedper(task), data)
