"""The networks that go by a name, one file each; their keyword arguments are their options."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moiety.core.registry import Registry, read_source_summary

if TYPE_CHECKING:
    from moiety.models.base import FeatureModel


@dataclass(frozen=True)
class Reads:
    """What a network reads.

    Args:
        kinds: of data, by name (``moiety.recipes.kinds``).
        flat: whether rows are flattened first.
        tokens: whether texts come as tokens of the folder that its options name.
    """

    kinds: tuple[str, ...]
    flat: bool = False
    tokens: bool = False


MEASURES = Reads(("table", "images"), flat=True)
IMAGES = Reads(("images",))
TEXTS = Reads(("text",))
GRAPHS = Reads(("graph",))
DOCUMENTS = Reads(("documents",))
TOKENS = Reads(("documents",), tokens=True)
RECORDS = Reads(("records",))


@dataclass(frozen=True)
class NetworkEntry:
    """A registered network.

    Args:
        make: makes it from the shape of a row, the number of classes and the stream of its first
            values; keyword-only arguments are its options.
        rebuild: makes it again from a stream and its ``config()``.
        reads: what it reads.
    """

    make: Callable[..., FeatureModel]
    rebuild: Callable[..., FeatureModel]
    reads: Reads = MEASURES


@dataclass(frozen=True)
class NetworkLine:
    """What is written down of a network, without importing it.

    Args:
        module: its ``build_<name>`` makes the network.
        reads: what it reads.
        rebuild: the function that makes it again; by default ``rebuild_<name>``.
        folder: where the module lies.
    """

    module: str
    reads: Reads = MEASURES
    rebuild: str = ""
    folder: str = "models"

    @property
    def path(self) -> str:
        """Name the module in full."""
        return f"moiety.{self.folder}.{self.module}"


def find_network(name: str, line: NetworkLine) -> NetworkEntry:
    """Import the module of a network, and find its functions."""
    module = importlib.import_module(line.path)
    rebuild = getattr(module, line.rebuild or f"rebuild_{name}")
    return NetworkEntry(getattr(module, f"build_{name}"), rebuild, line.reads)


def summarize_network(name: str) -> str:
    """Say what a network is, without importing it."""
    return read_source_summary(NETWORKS.lines[name].path, f"build_{name}")


NETWORKS: Registry[NetworkLine, NetworkEntry] = Registry(
    {
        "mlp": NetworkLine("mlp"),
        "linear": NetworkLine("mlp", rebuild="rebuild_mlp"),
        "normed": NetworkLine("normed"),
        "cnn": NetworkLine("cnn", IMAGES),
        "vgg": NetworkLine("vgg", IMAGES),
        "resnet": NetworkLine("resnet", IMAGES),
        "gcn": NetworkLine("graph", GRAPHS),
        "sage": NetworkLine("graph", GRAPHS),
        "gpt": NetworkLine("transformer", TEXTS),
        "bag": NetworkLine("bag", DOCUMENTS),
        "encoder": NetworkLine("encoder", DOCUMENTS),
        "pretrained": NetworkLine("pretrained", TOKENS),
        "lm": NetworkLine("language", RECORDS, folder="serve"),
        "vit": NetworkLine("vit", IMAGES),
    },
    find_network,
)
