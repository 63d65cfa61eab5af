"""Networks of one hidden layer that any subset of units can run, as a user would write them.

Letters: B rows, D features, H hidden units, O outputs, T positions, V tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import moiety
from moiety.core.axes import Axes


class Units(nn.Module):
    """A hidden layer whose outputs are a mean over units, so that a part of it is on its scale."""

    def __init__(self, features: int, units: int, outputs: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, units)
        self.out = nn.Linear(units, outputs)
        self.scale = units**0.5

    def forward(self, x: Tensor) -> Tensor:
        """Give outputs, [B, ..., O]."""
        h = F.relu(self.hidden(x))
        return self.out(h * (self.scale / h.shape[-1]))


class Pixels(Units):
    """Images [B, 28, 28], at half their resolution."""

    def forward(self, x: Tensor) -> Tensor:
        """Give outputs, [B, O]."""
        return super().forward(F.avg_pool2d(x, 2).flatten(1))


class Following(nn.Module):
    """Every token from the few before it: an embedding, a window, a hidden layer.

    Args:
        tokens: of the alphabet.
        units: of the hidden layer.
        width: of an embedding.
        window: tokens that are looked at.
    """

    def __init__(self, tokens: int, units: int, width: int = 16, window: int = 6) -> None:
        super().__init__()
        self.table = nn.Embedding(tokens, width)
        self.units = Units(width * window, units, tokens)
        self.window = window

    def look(self, x: Tensor) -> Tensor:
        """Give what is known at each position, [B, T, window * width]."""
        padded = F.pad(self.table(x), (0, 0, self.window - 1, 0))
        return padded.unfold(1, self.window, 1).flatten(2)

    def forward(self, x: Tensor) -> Tensor:
        """Give outputs for what follows each position, [B, T, V]."""
        return self.units(self.look(x))


class Averaged(Following):
    """The same with one answer for a row: its features are a mean over positions, for a gate."""

    def forward(self, x: Tensor) -> Tensor:
        """Give outputs, [B, V]."""
        units = self.units
        h = F.relu(units.hidden(self.look(x))).mean(1)
        return units.out(h * (units.scale / h.shape[-1]))


AXES: Axes = {"hidden.weight": ("h", None), "hidden.bias": ("h",), "out.weight": (None, "h")}
"""Where the units of ``Units`` lie."""


def draw(net: nn.Module, seed: int) -> nn.Module:
    """Give a network first values of an address: uniform, by the number of inputs."""
    for name, tensor in net.named_parameters():
        rng = moiety.stream(seed, "first", name)
        bound = 1.0 if "out" in name else tensor.shape[-1] ** -0.5
        bound = 0.0 if name.endswith("bias") else bound
        tensor.data = (torch.rand(tensor.shape, generator=rng) * 2 - 1) * bound
    return net
