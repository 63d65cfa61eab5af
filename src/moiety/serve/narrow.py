"""Narrow networks as experts of a wider mixture: a part of its axes, put back between zeros."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch

from moiety.core.axes import Part, add_piece, read_axis_lengths, take_piece
from moiety.core.errors import RunError
from moiety.core.types import Batch, Params
from moiety.models.base import FeatureModel
from moiety.serve.cards import OwnedExpert
from moiety.serve.personal import deploy_subnet

ALIKE = 1e-4
"""How far outputs may be apart that should be the same."""


def cut_narrow(model: FeatureModel, params: Params, width: float) -> FeatureModel:
    """Cut the first units of every axis out as a network of its own.

    Args:
        model: of which it is a part.
        params: of the whole.
        width: share of the units of each axis that it has, above 0.
    """
    lengths = read_axis_lengths(params, model.axes)
    kept = {axis: torch.arange(max(1, round(width * size))) for axis, size in lengths.items()}
    return deploy_subnet(model, params, Part(kept))


def widen_expert(model: FeatureModel, expert: OwnedExpert, batch: Batch) -> OwnedExpert:
    """Give a narrower expert the shape of a mixture's; it answers as before.

    Args:
        model: of an expert of the mixture.
        expert: whose tensors are a part of such a model's.
        batch: some rows, on which that is tried.

    Raises:
        RunError: for an expert that is no part of such a model, and for networks whose answers
            depend on how many units there are (norms over channels).
    """
    who, made = expert.card.owner, cast("Any", model)
    wanted = f"those of this mixture are {dict(model.config())}"
    unlike = RunError(
        f"the expert of {who!r} is {dict(expert.net)}, but {wanted}; an expert has their shape, "
        "or is a narrower one of the same network"
    )
    small = replace(made, params=expert.params)
    try:
        lengths = read_axis_lengths(expert.params, model.axes)
        part = Part({axis: torch.arange(size) for axis, size in lengths.items()})
        shapes = {name: t.shape for name, t in take_piece(model.params, model.axes, part).items()}
        fits = shapes == {name: t.shape for name, t in expert.params.items()}
        known = dict(small.config()) == dict(expert.net)
    except (IndexError, KeyError, RuntimeError, ValueError):
        raise unlike from None
    if not fits or not known:
        raise unlike
    whole = {name: torch.zeros_like(tensor) for name, tensor in model.params.items()}
    add_piece(whole, model.axes, part, expert.params)
    with torch.no_grad():
        told = [net.logits(net_params, batch, {}) for net, net_params in (
            (small, expert.params), (model, whole),
        )]  # fmt: skip
    if not torch.allclose(*told, rtol=ALIKE, atol=ALIKE):
        raise RunError(
            f"the expert of {who!r} is narrower than those of this mixture, and between zeros it "
            "answers otherwise (its norms see them); train one of their shape"
        )
    return replace(expert, net=dict(model.config()), params=whole)
