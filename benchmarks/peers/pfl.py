"""pfl's simulation on the same work: ``python -m benchmarks.peers.pfl ROUNDS``."""

from __future__ import annotations

import sys
import time
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel
from torch import Tensor, nn

from benchmarks.peers.shelf import BATCH, CHOSEN, LR, network, rows, tell


class Learner(nn.Module):
    """The network with the two functions that pfl asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def loss(self, x: Tensor, y: Tensor, *, eval: bool = False) -> Tensor:  # noqa: A002
        """Give the mean loss."""
        del eval
        return F.cross_entropy(self.net(x), y)

    def metrics(self, x: Tensor, y: Tensor, *, eval: bool = True) -> dict[str, float]:  # noqa: A002
        """Report nothing."""
        del x, y, eval
        return {}


class Marks(TrainingProcessCallback):
    """Notes when each round is over."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def after_central_iteration(
        self, aggregate_metrics: Metrics, model: PyTorchModel, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        """Note the time; go on."""
        del aggregate_metrics, model, central_iteration
        self.times.append(time.perf_counter())
        return False, Metrics()


def worker(number: int) -> Dataset:
    """Open the rows of a worker, shuffled: pfl takes them in the order given."""
    index = rows()["index"][number]
    order = index[torch.randperm(len(index))]
    return Dataset([rows()["x"][order], rows()["y"][order]], user_id=str(number))


def main() -> None:
    """Play rounds of federated averaging."""
    torch.set_num_threads(1)
    np.random.seed(0)  # noqa: NPY002 (pfl draws from it)
    num_rounds, learner, marks = int(sys.argv[1]), Learner(), Marks()
    people = FederatedDataset(worker, get_user_sampler("random", list(range(100))))
    model = PyTorchModel(learner, torch.optim.SGD, torch.optim.SGD(learner.parameters(), lr=1.0))
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(num_rounds + 1, 10**6, CHOSEN, None),
        backend=SimulatedBackend(training_data=people, val_data=people),
        model=model,
        model_train_params=NNTrainHyperParams(
            local_batch_size=BATCH, local_num_epochs=1, local_learning_rate=LR
        ),
        model_eval_params=NNEvalHyperParams(local_batch_size=None),
        callbacks=[marks],
    )
    tell([after - before for before, after in pairwise(marks.times)])


if __name__ == "__main__":
    main()
