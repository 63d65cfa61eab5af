"""Yardsticks: the same network in a plain loop of PyTorch, on all rows or on one owner's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import nn

from benchmarks.tasks_parts.worlds import World

BATCH, MOMENTUM = 64, 0.9


def train_plain(net: nn.Module, world: World, seed: int, scale: float = 1.0) -> None:
    """Make some passes over all rows, in place, at a rate that falls as a cosine."""
    x, y = world.train["x"], world.train["y"]
    optimizer = torch.optim.SGD(net.parameters(), scale * world.lr, momentum=MOMENTUM)
    steps = world.rounds * -(-len(y) // BATCH)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rng = torch.Generator().manual_seed(seed)
    for _ in range(world.rounds):
        for ids in torch.randperm(len(y), generator=rng).split(BATCH):
            optimizer.zero_grad()
            world.loss(net(x[ids]), y[ids]).backward()
            optimizer.step()
            falling.step()


def fit_alone(
    world: World, make: Callable[[], nn.Module], seed: int, scale: float
) -> Mapping[int, nn.Module]:
    """Train the network of each owner on its own rows alone, in as many passes as owners make."""
    nets = {}
    for owner in world.owners.unique().tolist():
        mine = world.owners == owner
        rows = {name: column[mine] for name, column in world.train.items()}
        nets[owner] = make()
        alone = replace(world, train=rows, rounds=world.owner_rounds)
        train_plain(nets[owner], alone, seed, scale)
    return nets
