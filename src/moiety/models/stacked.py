"""Several models of one shape, stacked on the axis ``expert``: names, cuts and answers of them.

Letters: B rows, K models at hand, O outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from moiety.core.axes import Axes
from moiety.core.types import Batch, Params
from moiety.models.base import FeatureModel

EXPERT = "expert"
PREFIX = "expert."


def stack_models(model: FeatureModel, starts: Sequence[Params]) -> tuple[Params, Axes]:
    """Stack first values of several models: ``expert.*`` [K, ...], and their axes."""
    params = {PREFIX + name: torch.stack([start[name] for start in starts]) for name in starts[0]}
    axes: Axes = {
        PREFIX + name: (EXPERT, *model.axes.get(name, (None,) * tensor.ndim))
        for name, tensor in starts[0].items()
    }
    return params, axes


def take_model(params: Params, place: int) -> Params:
    """Take one of the models at hand."""
    return {n.removeprefix(PREFIX): t[place] for n, t in params.items() if n.startswith(PREFIX)}


def count_models(params: Params) -> int:
    """Count the models at hand."""
    return len(next(t for name, t in params.items() if name.startswith(PREFIX)))


def ask_models(model: FeatureModel, params: Params, batch: Batch) -> Tensor:
    """Ask every model at hand, for use: outputs [K, B, ..., O]."""
    count = range(count_models(params))
    return torch.stack([model.logits(take_model(params, k), batch, {}) for k in count])


def ask_models_in_training(
    model: FeatureModel, params: Params, batch: Batch
) -> tuple[Tensor, Params]:
    """Ask every model at hand, in training: outputs [K, B, ..., O] and new values of buffers."""
    count = range(count_models(params))
    told = [model.forward(take_model(params, k), batch, {}) for k in count]
    after = {PREFIX + n: torch.stack([buffers[n] for _, buffers in told]) for n in told[0][1]}
    return torch.stack([out for out, _ in told]), after
