"""Several whole models beside each other, of which answers are mixed; no gate looks at inputs.

Letters: B rows, C classes, K models at hand, O outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from moiety.core.axes import Axes
from moiety.core.protocols import Kept
from moiety.core.types import Batch, Params
from moiety.models.base import FeatureModel, find_constants
from moiety.models.stacked import (
    EXPERT,
    PREFIX,
    ask_models,
    ask_models_in_training,
    count_models,
    stack_models,
    take_model,
)

MIX = "mix"
"""The log weights of the models, [K], up to a constant; lies on their axis."""

LABELS = "labels"
"""The share of each class in all rows, by the model that answers for them, [K, C]."""


@dataclass(frozen=True)
class Components:
    """Models on the axis ``expert``, and log weights by which they are mixed.

    Args:
        params: ``expert.*`` stacked [K, ...], and ``mix`` [K]; ``labels`` [K, C] where models are
            told how often they have each class.
        axes: the model's own, behind ``expert``.
        model: of one component.
        buffers: those of the components.
    """

    params: Params
    axes: Axes
    model: FeatureModel
    buffers: Mapping[str, str]
    draws_noise: bool = False
    uses_batch_statistics: bool = False

    @property
    def constants(self) -> Params:
        """Give what is frozen of all models."""
        return find_constants(self.model)

    def config(self) -> Mapping[str, Any]:
        """Say how to build this again."""
        count = count_models(self.params)
        labels = {"labels": self.params[LABELS].shape[1]} if LABELS in self.params else {}
        return {"kind": "components", "model": self.model.config(), "count": count, **labels}

    def ask(self, params: Params, batch: Batch, /) -> Tensor:
        """Ask every model at hand, for use: outputs [K, B, ..., O]."""
        return ask_models(self.model, params, batch)

    def ask_in_training(self, params: Params, batch: Batch, /) -> tuple[Tensor, Params]:
        """Ask every model at hand, in training: outputs [K, B, ..., O], and buffers."""
        return ask_models_in_training(self.model, params, batch)

    def logits(self, params: Params, batch: Batch, kept: Kept, /) -> Tensor:
        """Give log-probabilities of the mixture, [B, ..., O]."""
        del kept
        return mix_outputs(self.ask(params, batch), params[MIX])

    def forward(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        del kept
        out, after = self.ask_in_training(params, batch)
        return mix_outputs(out, params[MIX]), after

    def features(self, params: Params, batch: Batch, /) -> Tensor:
        """Give the last hidden layers of all models side by side, [B, K H]."""
        count = range(count_models(params))
        return torch.cat([self.model.features(take_model(params, k), batch) for k in count], -1)

    def redraw(self, rng: Generator, /) -> Params:
        """Draw fresh first values."""
        starts = [self.model.redraw(rng) for _ in range(count_models(self.params))]
        fresh = {**stack_models(self.model, starts)[0], MIX: torch.zeros(len(starts))}
        return {**fresh, LABELS: self.params[LABELS]} if LABELS in self.params else fresh


def mix_outputs(out: Tensor, mix_K: Tensor) -> Tensor:
    """Mix the probabilities of outputs [K, B, ..., O] by log weights: log-probabilities."""
    log_K = mix_K.log_softmax(-1).reshape(-1, *[1] * (out.ndim - 1))
    return torch.logsumexp(out.float().log_softmax(-1) + log_K, 0)


def components(model: FeatureModel, starts: Sequence[Params], labels: int = 0) -> Components:
    """Put models beside each other.

    Args:
        model: of one of them.
        starts: first values of each; as many as these.
        labels: classes, where models are told how often they have each; equal shares at first.
    """
    params, axes = stack_models(model, starts)
    buffers = {PREFIX + name: rule for name, rule in model.buffers.items()}
    flags = model.draws_noise, model.uses_batch_statistics
    mix = torch.zeros(len(starts), dtype=next(iter(params.values())).dtype)
    params, axes = {**params, MIX: mix}, {**axes, MIX: (EXPERT,)}
    if labels:
        params[LABELS] = mix.new_ones((len(starts), labels)) / (len(starts) * labels)
        axes[LABELS], buffers[LABELS] = (EXPERT, None), "mean"
    return Components(params, axes, model, buffers, *flags)
