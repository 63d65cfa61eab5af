"""First values of parameters, drawn from a stream."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor


def draw_uniform(shape: Sequence[int], fan_in: int, rng: Generator) -> Tensor:
    """Draw from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), as torch's linear and convolution layers do."""
    bound = fan_in**-0.5
    return (torch.rand(*shape, generator=rng) * 2 - 1) * bound
