"""What a network is to those that are handed one: a model with a last hidden layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Generator, Tensor

from moiety.core.protocols import Model
from moiety.core.types import Batch, Params


class FeatureModel(Model, Protocol):
    """A model with a last hidden layer: what an expert and the common expert must be."""

    def features(self, params: Params, batch: Batch, /) -> Tensor: ...
    def redraw(self, rng: Generator, /) -> Params: ...
    def config(self) -> Mapping[str, Any]: ...


@runtime_checkable
class HasConstants(Protocol):
    """A model of which something is frozen: downloaded once, whole, and never in a piece."""

    @property
    def constants(self) -> Params:
        """Name -> what is frozen; no name is that of a parameter."""
        ...


@runtime_checkable
class TakesConstants(HasConstants, Protocol):
    """One whose frozen tensors are saved with it and set again by whoever loads it."""

    def replace_constants(self, constants: Params, /) -> FeatureModel:
        """Give the same model with other frozen tensors, of the same names."""
        ...


@runtime_checkable
class Placeable(Protocol):
    """A model that brings its first values and what is frozen of it to a device by itself."""

    def place(self, device: str, /) -> FeatureModel: ...


@runtime_checkable
class ReadsAhead(Protocol):
    """A model in whose rows' place may stand what is frozen of it reads of them."""

    def read_ahead(self, x: Tensor, /) -> Tensor:
        """Give what the rest of it reads in place of rows."""
        ...


@runtime_checkable
class Teachable(Protocol):
    """A model of which something is taught on rows set apart, before any worker begins."""

    def teach(self, x: Tensor, y: Tensor, seed: int, /) -> tuple[Params, float]:
        """Give parameters to start at, and how much of what was held out is told right."""
        ...


def find_constants(model: Model) -> Params:
    """Find what every worker downloads once of a model; nothing where nothing is frozen."""
    return model.constants if isinstance(model, HasConstants) else {}


def list_widths(shape: Sequence[int], hidden: Sequence[int], classes: int) -> tuple[int, ...]:
    """List the widths of a network of flat rows: inputs, hidden layers, classes.

    >>> list_widths((2, 3), (8,), 4)
    (6, 8, 4)
    """
    return (math.prod(shape), *hidden, classes)
