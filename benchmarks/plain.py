"""Federated averaging as a careful researcher writes it by hand in plain PyTorch.

This is the yardstick: one model, one optimiser, the fused library calls, data in one tensor,
nothing copied that need not be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Table = Mapping[str, Tensor]


class GroupedCNN(nn.Module):
    """The architecture of ``moiety.models.cnn``, layer by layer, for 28x28 images."""

    def __init__(self, one: int, two: int, hidden: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, one, 5, padding=2), nn.GroupNorm(one // 8, one)
        self.conv2, self.norm2 = nn.Conv2d(one, two, 5, padding=2), nn.GroupNorm(two // 8, two)
        self.fc1, self.fc2 = nn.Linear(two * 49, hidden), nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(x.reshape(-1, 1, 28, 28)))), 2)
        x = F.max_pool2d(F.relu(self.norm2(self.conv2(x))), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


def perceptron(*widths: int) -> nn.Module:
    """Stack linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for ins, outs in pairwise(widths):
        layers += [nn.Linear(ins, outs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def train(net: nn.Module, table: Table, index: Tensor, *, batch: int, lr: float) -> None:
    """Make one epoch over a worker's rows."""
    optimizer = torch.optim.SGD(net.parameters(), lr)
    order = index[torch.randperm(len(index))]
    x, y = table["x"], table["y"]
    for ids in order.split(batch):
        optimizer.zero_grad()
        F.cross_entropy(net(x[ids]), y[ids]).backward()
        optimizer.step()


def play(
    net: nn.Module, table: Table, parts: Sequence[Tensor], *, batch: int = 20, lr: float = 0.05
) -> None:
    """Play one round of federated averaging in place on ``net``."""
    before = {name: t.clone() for name, t in net.state_dict().items()}
    total = {name: torch.zeros_like(t) for name, t in before.items()}
    for index in parts:
        net.load_state_dict(before)
        train(net, table, index, batch=batch, lr=lr)
        for name, tensor in net.state_dict().items():
            total[name] += tensor
    net.load_state_dict({name: t / len(parts) for name, t in total.items()})
