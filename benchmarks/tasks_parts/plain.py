"""The yardstick: one network trained on all rows by a plain loop of PyTorch."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.tasks_parts.worlds import World

BATCH, MOMENTUM = 64, 0.9


def train_plain(net: nn.Module, world: World, epochs: int, seed: int) -> None:
    """Make some passes over all rows, in place, at a rate that falls as a cosine."""
    x, y = world.train["x"], world.train["y"]
    optimizer = torch.optim.SGD(net.parameters(), world.lr, momentum=MOMENTUM)
    steps = epochs * -(-len(y) // BATCH)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rng = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for ids in torch.randperm(len(y), generator=rng).split(BATCH):
            optimizer.zero_grad()
            world.loss(net(x[ids]), y[ids]).backward()
            optimizer.step()
            falling.step()
