"""What a network is to those that are handed one: a model with a last hidden layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Generator, Tensor

from moiety.core.protocols import Model
from moiety.core.types import Batch, Params


class FeatureModel(Model, Protocol):
    """A model with a last hidden layer: what an expert and the common expert must be."""

    def features(self, params: Params, batch: Batch, /) -> Tensor: ...
    def redraw(self, rng: Generator, /) -> Params: ...
    def config(self) -> Mapping[str, Any]: ...


def list_widths(shape: Sequence[int], hidden: Sequence[int], classes: int) -> tuple[int, ...]:
    """List the widths of a network of flat rows: inputs, hidden layers, classes.

    >>> list_widths((2, 3), (8,), 4)
    (6, 8, 4)
    """
    return (math.prod(shape), *hidden, classes)
