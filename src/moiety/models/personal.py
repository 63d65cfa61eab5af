"""A model that is shared, and a second one of the same shape that each worker keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from moiety.core.axes import Axes
from moiety.core.protocols import Kept
from moiety.core.types import Batch, Params
from moiety.models.base import FeatureModel, find_constants

OWN_PREFIX = "own."
"""What names of the worker's own model begin with."""

TRAINED = "trained"
"""Whether the worker has trained its own model, 1 or 0, []; if not, it uses the shared one."""


@dataclass(frozen=True)
class SharedAndOwn:
    """The shared model under its own names, the worker's behind ``own.``, and ``trained``.

    Args:
        params: of both; the worker's begin where the shared ones do.
        axes: of both.
        model: of either.
        buffers: of both.
        own_share: of the worker's own model in the one it uses, once it has trained it; the rest is
            the shared model's.
    """

    params: Params
    axes: Axes
    model: FeatureModel
    buffers: Mapping[str, str]
    draws_noise: bool = False
    uses_batch_statistics: bool = False
    own_share: float = 1.0

    @property
    def constants(self) -> Params:
        """Give what is frozen of the model."""
        return find_constants(self.model)

    def config(self) -> Mapping[str, Any]:
        """Say how to build this again."""
        share = {} if self.own_share == 1 else {"own_share": self.own_share}
        return {"kind": "shared-and-own", "model": self.model.config(), **share}

    def take_shared(self, params: Params) -> Params:
        """Take the shared model."""
        return {name: params[name] for name in self.model.params}

    def take_own(self, params: Params) -> Params:
        """Take the worker's model."""
        return {name: params[OWN_PREFIX + name] for name in self.model.params}

    def mix_own(self, params: Params) -> Params:
        """Mix the worker's model with the shared one, through which no gradient goes."""
        own = self.take_own(params)
        if self.own_share == 1:
            return own
        rest = 1 - self.own_share
        return {n: self.own_share * t + rest * params[n].detach() for n, t in own.items()}

    def take_used(self, params: Params) -> Params:
        """Take the model that the worker uses: its own, mixed, where it has trained one."""
        own, trained = self.mix_own(params), params[TRAINED] > 0
        shared = self.take_shared(params)
        return {name: torch.where(trained, own[name], tensor) for name, tensor in shared.items()}

    def logits(self, params: Params, batch: Batch, kept: Kept, /) -> Tensor:
        return self.model.logits(self.take_used(params), batch, kept)

    def forward(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        return self.model.forward(self.take_shared(params), batch, kept)

    def features(self, params: Params, batch: Batch, /) -> Tensor:
        """Give the last hidden layer of the model that is used."""
        return self.model.features(self.take_used(params), batch)

    def redraw(self, rng: Generator, /) -> Params:
        """Draw fresh first values."""
        return share_and_own(self.model, self.model.redraw(rng), self.own_share).params


def name_own(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Put the prefix of the worker's model before names."""
    return {OWN_PREFIX + name: value for name, value in tensors.items()}


def share_and_own(model: FeatureModel, first: Params, own_share: float = 1.0) -> SharedAndOwn:
    """Put a second model beside one; both begin at the same values."""
    params = {**first, **name_own(first), TRAINED: torch.zeros(())}
    axes = {**model.axes, **name_own(model.axes)}
    buffers = {**model.buffers, **name_own(model.buffers)}
    flags = model.draws_noise, model.uses_batch_statistics
    return SharedAndOwn(params, axes, model, buffers, *flags, own_share)
