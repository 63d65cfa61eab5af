"""DiLoCo: AdamW at the workers, Nesterov momentum at the server.

Douillard et al., *DiLoCo: Distributed Low-Communication Training of Language Models*,
arXiv:2311.08105.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Generator

from moiety.core.protocols import Method
from moiety.methods.demo import Demo, make_two_class_workers
from moiety.methods.fedavg import fedavg
from moiety.methods.task import Task
from moiety.server.optimizers import Momentum, PseudoGradientServer


def diloco(task: Task, *, server_lr: float = 0.7, server_momentum: float = 0.9) -> Method:
    """Train with AdamW, whose moments stay at the worker; the server steps with Nesterov momentum.

    Args:
        task: what is to be learnt.
        server_lr: of the server; 1 without momentum is local SGD.
        server_momentum: of the server.

    Raises:
        ValueError: for another optimizer of workers than AdamW, or SGD, which all methods of a run
            share where nothing is said.
    """
    if task.local.optimizer not in ("sgd", "adamw"):
        raise ValueError(
            f"local.optimizer={task.local.optimizer!r}, but diloco trains with adamw; leave it out"
        )
    local = task.local.choose(optimizer="adamw", optimizer_state="keep")
    server = PseudoGradientServer(Momentum(server_lr, server_momentum, nesterov=True))
    return replace(fedavg(replace(task, local=local)), name="diloco", server=server)


def demo(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes."""
    task, data = make_two_class_workers(rng)
    return Demo(diloco(replace(task, local=replace(task.local, lr=0.01))), data)
