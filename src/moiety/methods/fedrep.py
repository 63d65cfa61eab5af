"""FedRep: workers share a representation; each fits its own head to it first.

Collins et al., *Exploiting Shared Representations for Personalized Federated Learning*,
arXiv:2102.07078, algorithm 1.
"""

from dataclasses import replace

from torch import Generator

from moiety.core.protocols import Method
from moiety.methods.demo import Demo, make_two_class_workers
from moiety.methods.fedper import fedper, find_head
from moiety.methods.task import Task
from moiety.ops.optim import Phased


def fedrep(task: Task, *, head: tuple[str, ...] = (), head_steps: int = 5) -> Method:
    """Share the body, keep the head; first steps move the head alone, later ones the body.

    A worker that was never seen has no head of its own: it is served with the head's first
    values, so this method is for the workers it trains.

    Args:
        task: what is to be learnt.
        head: patterns of the parameters that stay; by default those of ``fedper``.
        head_steps: steps of a round in which the head moves; in all later ones the body does. A
            worker that makes fewer steps in all never moves the body.
    """
    if head_steps < 1:
        raise ValueError(f"fedrep.{head_steps=}; choose at least 1, or fedper")
    if task.local.optimizer_state != "reset":
        raise ValueError(
            f"local.optimizer_state={task.local.optimizer_state!r}, but fedrep counts the steps of "
            "a round there; use 'reset'"
        )
    steps = task.local.steps
    if 0 < steps <= head_steps:
        raise ValueError(f"local.steps={steps} leaves the body no step behind {head_steps=}")
    rule = task.local.make_rule()
    own = find_head(task, head)
    rules = [(name, Phased(rule, 0, head_steps)) for name in own]
    solve = replace(task.make_solver(), own=own, rules=(*rules, ("*", Phased(rule, head_steps))))
    return replace(fedper(task, head=head), name="fedrep", solve=solve)


def demo(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes."""
    task, data = make_two_class_workers(rng)
    return Demo(fedrep(task, head_steps=2), data)
