"""Fisher merging: every entry is averaged by how sure each worker is of it.

Matena and Raffel, *Merging Models with Fisher-Weighted Averaging*, arXiv:2111.09832.
"""

from dataclasses import replace

from torch import Generator

from moiety.core.protocols import Method
from moiety.methods.demo import Demo, make_two_class_workers
from moiety.methods.fedavg import fedavg
from moiety.methods.task import Task
from moiety.solve.fisher import weigh_by_fisher


def fisher(task: Task, *, floor: float = 1e-4) -> Method:
    """Train the whole model everywhere, and weigh every entry by its empirical Fisher information.

    A worker makes one more pass over its rows, and sends twice the bytes.

    Args:
        task: what is to be learnt; its model must see rows one by one, without noise.
        floor: added to the information, so that an entry of which nobody is sure is a plain mean.
    """
    if task.model.draws_noise or task.model.uses_batch_statistics or task.local.augments:
        raise ValueError(
            "fisher takes the gradient of each row alone, but this model draws noise (dropout, "
            "local.flips, local.crops) or lets rows of a batch see each other (batch norm); use "
            "one without"
        )
    solve = weigh_by_fisher(task.make_solver(), floor)
    return replace(fedavg(task), name="fisher", solve=solve)


def demo(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes."""
    task, data = make_two_class_workers(rng)
    return Demo(fisher(task), data)
