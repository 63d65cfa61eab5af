"""Rows brought to the shape, the scale and the device of a network; data told from other data."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from moiety.data import datasets
from moiety.data.dataset import Dataset, FeatureScale, fit_scale
from moiety.models.base import FeatureModel
from moiety.models.networks import NETWORKS
from moiety.recipes.record import Federation


def stamp_file(name: str) -> tuple[int, int]:
    """Tell a file from what it was before: when it changed and how long it is."""
    path = Path(name)
    if not name or name in datasets.DATASETS or not path.exists():
        return 0, 0
    return path.stat().st_mtime_ns, path.stat().st_size


def standardise_dataset(
    record: Federation, data: Dataset, known: Tensor
) -> tuple[Dataset, FeatureScale]:
    """Bring rows to the shape that the network reads, to one scale, and to the device."""
    pictures = data.x.ndim > 2
    if NETWORKS[record.net].reads.flat:
        data = replace(data, x=data.x.flatten(1))
    scale = fit_scale(data.x, known)
    scale = level_scale(scale) if pictures else scale
    assert data.y is not None
    x, y = scale.apply(data.x).to(record.device), data.y.to(record.device)
    return replace(data, x=x, y=y), scale


def fingerprint_data(data: Dataset) -> str:
    """Tell data from other data, so that a run does not go on with changed ones."""
    digest = hashlib.blake2b(digest_size=8)
    edges = None if data.graph is None else data.graph.edges
    for column in (data.x, data.y, edges):
        if column is not None:
            digest.update(column.contiguous().numpy().tobytes())
    return digest.hexdigest()


def level_scale(scale: FeatureScale) -> FeatureScale:
    """Keep pixels that hardly vary (a corner) from being stretched without bound.

    Only for pixels, which share a unit: columns of a table differ by as much as they like.
    """
    return FeatureScale(scale.mean, scale.std.clamp_min(0.1 * float(scale.std.max())))


def move_model(net: FeatureModel, device: str) -> FeatureModel:
    """Move a model's first values."""
    params = {name: t.to(device) for name, t in net.params.items()}
    record: Any = net  # every model is a record with params
    return replace(record, params=params)
