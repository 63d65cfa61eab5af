"""Federated averaging with an adaptive optimiser at the server: FedAdam, FedYogi, FedAdagrad.

Reddi et al., *Adaptive Federated Optimization*, arXiv:2003.00295.
"""

from dataclasses import replace

from torch import Generator

from moiety.core.errors import UnknownNameError
from moiety.core.protocols import Method
from moiety.methods.demo import Demo, make_two_class_workers
from moiety.methods.fedavg import fedavg
from moiety.methods.task import Task
from moiety.server.optimizers import (
    Momentum,
    PseudoGradientServer,
    ServerRule,
    fedadagrad,
    fedadam,
    fedyogi,
)


def fedopt(
    task: Task, *, server: str = "adam", server_lr: float = 0.01, tau: float = 1e-3
) -> Method:
    """Average, and let the server's optimiser take the step.

    Args:
        task: what is to be learnt.
        server: ``adam``, ``yogi``, ``adagrad``, or ``momentum`` and ``nesterov`` (then a
            ``server_lr`` near 1 is usual).
        server_lr: learning rate of the server.
        tau: adaptivity; the larger, the nearer to plain averaging with a rate.
    """
    rules: dict[str, ServerRule] = {
        "adam": fedadam(server_lr, tau=tau),
        "yogi": fedyogi(server_lr, tau=tau),
        "adagrad": fedadagrad(server_lr, tau=tau),
        "momentum": Momentum(server_lr),
        "nesterov": Momentum(server_lr, nesterov=True),
    }
    if server not in rules:
        raise UnknownNameError(f"server optimiser {server!r}; choose one of {sorted(rules)}")
    return replace(fedavg(task), name="fedopt", server=PseudoGradientServer(rules[server]))


def demo(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes."""
    task, data = make_two_class_workers(rng)
    return Demo(fedopt(task), data)
