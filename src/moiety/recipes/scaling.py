"""Rows brought to one scale, and data and models to a device."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from moiety.data.dataset import Dataset, FeatureScale, fit_scale
from moiety.data.encoding import Encoding
from moiety.models.base import FeatureModel, Placeable


def scale_measures(data: Dataset, known: Tensor) -> tuple[Dataset, FeatureScale]:
    """Bring measures to one scale, fitted on known rows; whole numbers (tokens) stay."""
    scale = fit_scale(data.x, known)
    if data.encoding is not None:
        measures = data.encoding.measures()
        scale = FeatureScale(
            torch.where(measures, scale.mean, 0.0), torch.where(measures, scale.std, 1.0)
        )
    return replace(data, x=scale.apply(data.x)), scale


def encode_rows(data: Dataset, known: Tensor, like: Encoding | None = None) -> Dataset:
    """Fit to known rows how columns become numbers, and weights of 1 on average.

    What came as numbers stays. Columns become numbers as ``like`` has it, where it is given.
    """
    if data.weights is not None:
        data = replace(data, weights=data.weights / data.weights[known].mean())
    if data.encoding is None:
        return data
    raw = {column.name: column for column in data.raw}
    encoding = like or data.encoding.fit(raw, known.numpy())
    return replace(data, x=encoding.apply(raw), columns=encoding.names(), raw=(), encoding=encoding)


def scale_pixels(data: Dataset, known: Tensor) -> tuple[Dataset, FeatureScale]:
    """Bring pixels to one scale; those that hardly vary (a corner) are not stretched unbounded.

    Only for pixels, which share a unit: columns of a table differ by as much as they like.
    """
    found = fit_scale(data.x, known)
    scale = FeatureScale(found.mean, found.std.clamp_min(0.1 * float(found.std.max())))
    return replace(data, x=scale.apply(data.x)), scale


def move_dataset(data: Dataset, device: str) -> Dataset:
    """Move rows, labels, and what is read of a graph at every step."""
    y = None if data.y is None else data.y.to(device)
    graph = None if data.graph is None else data.graph.to(device)
    weights = None if data.weights is None else data.weights.to(device)
    return replace(data, x=data.x.to(device), y=y, graph=graph, weights=weights)


def move_model(net: FeatureModel, device: str) -> FeatureModel:
    """Move a model's first values, and what is frozen of it where it says how."""
    if isinstance(net, Placeable):
        return net.place(device)
    params = {name: t.to(device) for name, t in net.params.items()}
    record: Any = net  # every model is a record with params
    return replace(record, params=params)
