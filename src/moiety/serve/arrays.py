"""Inputs that a finished model is given: tensors and arrays of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Numbers = Tensor | NDArray[Any]
Inputs = Numbers | Mapping[str, Numbers]
"""Of rows: an array, or columns by name where a module of one's own takes several."""


def as_tensor(x: Numbers) -> Tensor:
    """Take a tensor as it is, and an array of floating-point numbers in single precision.

    Raises:
        ValueError: for an array of anything but numbers.
    """
    if isinstance(x, Tensor):
        return x
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"an array of {array.dtype} was given; give numbers")
    return torch.tensor(array.astype(np.float32) if array.dtype.kind == "f" else array)
