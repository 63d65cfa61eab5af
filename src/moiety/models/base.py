"""What a network is to those that are handed one: a model with a last hidden layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Generator, Tensor

from moiety.core.protocols import Model
from moiety.core.types import Batch, Params


class FeatureModel(Model, Protocol):
    """A model with a last hidden layer: what an expert and the common expert must be."""

    def features(self, params: Params, batch: Batch, /) -> Tensor: ...
    def redraw(self, rng: Generator, /) -> Params: ...
    def config(self) -> Mapping[str, Any]: ...
