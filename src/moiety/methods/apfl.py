"""APFL: FedAvg, and beside it a model for each worker that is mixed with the shared one.

Deng, Kamani and Mahdavi, *Adaptive Personalized Federated Learning*, arXiv:2003.13461, algorithm 1
with a fixed share.
"""

from torch import Generator

from moiety.core.protocols import Method
from moiety.methods.demo import Demo, make_two_class_workers
from moiety.methods.ditto import average_beside_own
from moiety.methods.task import Task


def apfl(task: Task, *, alpha: float = 0.5) -> Method:
    """Average one model, and let each worker train its own for what it is mixed with that one.

    The shared model is FedAvg's to the bit. A worker uses ``alpha`` of its own model and the rest
    of the shared one, and trains its own so; one that was never seen uses the shared model. With
    ``alpha=1`` workers' own models are local training alone.

    Args:
        task: what is to be learnt.
        alpha: share of the worker's own model; the same for all, in all rounds.
    """
    if not 0 < alpha <= 1:
        raise ValueError(f"apfl.{alpha=}; choose above 0 to 1, or fedavg")
    return average_beside_own(task, "apfl", own_share=alpha)


def demo(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes."""
    task, data = make_two_class_workers(rng)
    return Demo(apfl(task), data)
