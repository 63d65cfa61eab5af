"""FedBN: federated averaging of all but the norms, which are each worker's own.

Li et al., *FedBN: Federated Learning on Non-IID Features via Local Batch Normalization*,
arXiv:2102.07623, algorithm 1.
"""

from dataclasses import replace

import torch
from torch import Generator

from moiety.core.protocols import Method, skip_calibration
from moiety.core.rows import Rows, TableRows, take_all_rows
from moiety.methods.demo import Demo, make_similar_workers
from moiety.methods.fedper import fedper
from moiety.methods.task import Task
from moiety.models.normed import normed


def fedbn(task: Task, *, norms: tuple[str, ...] = ("*norm*", "*bn*")) -> Method:
    """Share all but the norms; their scales, shifts and statistics stay with the worker.

    For workers whose inputs differ (scanners, cameras), not their labels. Networks of ours take the
    statistics of the rows that they answer, of a worker as it is served; a module's running
    statistics stay with the worker too. A worker that was never seen has the norms' first values.

    Args:
        task: what is to be learnt, by a network with norms (``normed``, ``resnet``, a module).
        norms: patterns of the names of norms' parameters and statistics.

    Raises:
        ValueError: for a network without.
    """
    if not norms:
        raise ValueError(f"fedbn.{norms=} names none; leave it out, or take fedavg")
    return replace(fedper(task, head=norms), name="fedbn", calibrate=skip_calibration)


def demo(rng: Generator) -> Demo:
    """Learn blobs that every worker sees in a scale and place of its own."""
    task, data = make_similar_workers(rng)
    seen: dict[int, Rows] = {}
    for worker, rows in data.items():
        batch = take_all_rows(rows)
        scale, place = 0.5 + torch.rand(8, generator=rng), torch.randn(8, generator=rng)
        table = {**batch, "x": batch["x"] * scale + 2 * place}
        seen[worker] = TableRows(table, torch.arange(rows.size))
    return Demo(fedbn(replace(task, model=normed((8, 12, 6), rng))), seen)
