"""Numbers as whole multiples of a step, added in the ring of the integers modulo 2 ** 32.

A sum of so many numbers as the step was chosen for never leaves the ring's half, so it is exact,
in any order, and what was added to a term and taken from another leaves no trace.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

HALF = 1 << 31
"""Sums are below this in absolute value."""


@dataclass(frozen=True)
class Scale:
    """How finely numbers are told.

    Args:
        most: the largest absolute value of a number.
        weight: the largest weight.
        terms: of a sum, at most.
    """

    most: float
    weight: int
    terms: int

    def __post_init__(self) -> None:
        if not 0 < self.most < math.inf or self.weight < 1 or self.terms < 1:
            raise ValueError(f"{self}: choose a finite number above 0, a weight of at least 1")
        if self.weight * self.terms >= HALF >> 1:
            raise ValueError(
                f"weights of {self.weight} from {self.terms} workers leave a sum of 32 bits no "
                "room; choose a smaller secure.rows"
            )

    @property
    def step(self) -> float:
        """The step of a weighted number.

        The mean of numbers is off by half of it at most, over the mean of the weights.

        >>> Scale(8.0, 1, 4).step
        1.4901161221603232e-08
        """
        return self.most * self.weight * self.terms / (HALF - self.terms)

    def write(self, values: Tensor, weight: int) -> Tensor:
        """Write weighted numbers to the nearest step, as int32.

        Raises:
            ValueError: for one that is not finite, or too large.

        >>> Scale(8.0, 1, 4).write(torch.tensor([8.0, -8.0, 0.0]), 1).tolist()
        [536870911, -536870911, 0]
        """
        if not values.is_meta and not bool((values.abs() <= self.most).all()):
            raise ValueError(f"a number is not finite or beyond {self.most:g}")
        if not 1 <= weight <= self.weight:
            raise ValueError(f"its weight is {weight}, not 1 to {self.weight}")
        return (values.double() * weight / self.step).round().to(torch.int32)

    def read(self, sums: Tensor, weight: int) -> Tensor:
        """Read the mean of numbers off their sum, in float64.

        Args:
            sums: of weighted numbers, in the ring.
            weight: the sum of the weights.
        """
        return sums.double() * self.step / weight


def wrap(total: Tensor) -> Tensor:
    """Bring sums of int64 into the ring, as numbers of -2 ** 31 up to 2 ** 31.

    >>> wrap(torch.tensor([2**31, -(2**31) - 1, 5])).tolist()
    [-2147483648, 2147483647, 5]
    """
    return ((total + HALF) % (2 * HALF) - HALF).to(torch.int64)
