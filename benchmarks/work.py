"""The work that is timed: Fashion-MNIST over 100 workers, and 256 workers of a tiny net."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor, nn

from benchmarks.plain import GroupedCNN, Table, perceptron
from moiety.core.protocols import Method
from moiety.core.rows import TableRows
from moiety.data.datasets import load_dataset
from moiety.methods.fedavg import fedavg
from moiety.methods.task import LocalTraining, Task
from moiety.models.cnn import cnn
from moiety.models.mlp import mlp

LOCAL = LocalTraining(lr=0.05, momentum=0.0, batch=20)
"""SGD at 0.05 without momentum, batches of 20, one epoch: for all contenders alike."""

CNN_SIZES = (8, 16, 128)
"""Channels and hidden units of the small network, of which a plain round takes about 0.7 s."""

WIDE_SIZES = (32, 64, 512)
"""Those of McMahan et al., arXiv:1602.05629."""


@dataclass(frozen=True)
class Work:
    """Rows of all workers, and a network in both spellings.

    Args:
        table: rows of all workers.
        index: rows of each worker, [workers, rows].
        num_chosen: workers in a round.
        net: the plain network.
        method: ours.
        test: rows to score.
    """

    table: Table
    index: Tensor
    num_chosen: int
    net: nn.Module
    method: Method
    test: Table = field(default_factory=dict)

    def open(self, worker: int) -> TableRows:
        """Open the rows of a worker."""
        return TableRows(self.table, self.index[worker])

    def cohort(self, round_index: int) -> list[int]:
        """Choose the workers of a round, the same for all contenders."""
        rng = torch.Generator().manual_seed(round_index)
        return torch.randperm(len(self.index), generator=rng)[: self.num_chosen].tolist()


def network(kind: str) -> nn.Module:
    """Build the plain network."""
    if kind == "mlp":
        return perceptron(784, 200, 200, 10)
    return GroupedCNN(*(CNN_SIZES if kind == "cnn" else WIDE_SIZES))


def real() -> bool:
    """Say whether the rows of Fashion-MNIST are at hand."""
    return "MOIETY_DATA" in os.environ


@lru_cache(maxsize=1)
def rows() -> tuple[Table, Table]:
    """Read rows for training and for scoring; random ones of the same shape if not at hand.

    Random rows take as long as real ones, but nothing can be learnt from them.
    """
    if not real():
        rng = torch.Generator().manual_seed(0)
        x, y = torch.rand(60_000, 784, generator=rng), torch.arange(60_000) % 10
        return {"x": x, "y": y}, {}
    data = load_dataset("fashion-mnist")
    assert data.y is not None
    assert data.test is not None
    x = data.x.flatten(1)
    table = {"x": x[~data.test], "y": data.y[~data.test]}
    return table, {"x": x[data.test], "y": data.y[data.test]}


def clothing(kind: str, seed: int = 0) -> Work:
    """Deal Fashion-MNIST to 100 workers of 600 rows; 10 take part in a round."""
    rng = torch.Generator().manual_seed(seed)
    table, test = rows()
    index = torch.randperm(len(table["y"]), generator=rng).reshape(100, 600)
    if kind == "mlp":
        model = mlp((784, 200, 200, 10), rng)
    else:
        one, two, hidden = CNN_SIZES if kind == "cnn" else WIDE_SIZES
        model = cnn((1, 28, 28), 10, rng, channels=(one, two), hidden=hidden)
    return Work(table, index, 10, network(kind), fedavg(Task(model, LOCAL)), test)


def crowd(each: int) -> Work:
    """Give 256 workers random rows of 64 numbers; all take part, on a 64-8-10 network."""
    rng = torch.Generator().manual_seed(0)
    size = 256 * each
    table = {
        "x": torch.randn(size, 64, generator=rng),
        "y": torch.randint(10, (size,), generator=rng),
    }
    index = torch.randperm(size, generator=rng).reshape(256, each)
    method = fedavg(Task(mlp((64, 8, 10), rng), LOCAL))
    return Work(table, index, 256, perceptron(64, 8, 10), method)
