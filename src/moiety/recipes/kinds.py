"""What kind of data a recipe has, and which networks read it."""

from __future__ import annotations

from moiety.core.errors import UnknownNameError
from moiety.data.dataset import Dataset
from moiety.models.networks import NETWORKS
from moiety.recipes.fields import suggest_names


def find_kind(data: Dataset) -> str:
    """Tell tables, images, texts and graphs apart."""
    if data.graph is not None:
        return "graph"
    if not data.x.is_floating_point():
        return "text"
    return "images" if data.x.ndim > 2 else "table"


def reads_texts(name: str) -> bool:
    """Say whether a network reads texts."""
    return "text" in NETWORKS[name].reads.kinds


def check_network(name: str) -> None:
    """Refuse a network that is not there."""
    if name not in NETWORKS:
        raise UnknownNameError(f"unknown network {name!r}{suggest_names(name, NETWORKS)}")


def check_reads(name: str, data: Dataset) -> None:
    """Refuse data of a kind that a network does not read.

    Raises:
        ValueError: with the networks that do.
    """
    kind, reads = find_kind(data), NETWORKS[name].reads
    if kind not in reads.kinds:
        fit = [other for other, entry in NETWORKS.items() if kind in entry.reads.kinds]
        raise ValueError(
            f"network {name!r} reads {' or '.join(reads.kinds)}, but the data are {kind}, rows of "
            f"shape {tuple(data.x.shape[1:])}; choose --net {', '.join(fit)}, or other data"
        )
