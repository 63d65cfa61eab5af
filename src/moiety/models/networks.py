"""The networks that go by a name, one file each; their keyword arguments are their options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from moiety.models.bag import build_bag, rebuild_bag
from moiety.models.base import FeatureModel
from moiety.models.cnn import build_cnn, rebuild_cnn
from moiety.models.graph import build_gcn, build_sage, rebuild_gcn, rebuild_sage
from moiety.models.mlp import build_linear, build_mlp, rebuild_mlp
from moiety.models.normed import build_normed, rebuild_normed
from moiety.models.resnet import build_resnet, rebuild_resnet
from moiety.models.transformer import build_gpt, rebuild_gpt
from moiety.models.vgg import build_vgg, rebuild_vgg
from moiety.models.vit import build_vit, rebuild_vit


@dataclass(frozen=True)
class Reads:
    """What a network reads.

    Args:
        kinds: of data, by name (``moiety.recipes.kinds``).
        flat: whether rows are flattened first.
    """

    kinds: tuple[str, ...]
    flat: bool = False


MEASURES = Reads(("table", "images"), flat=True)
IMAGES = Reads(("images",))
TEXTS = Reads(("text",))
GRAPHS = Reads(("graph",))
DOCUMENTS = Reads(("documents",))


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


NETWORKS: Mapping[str, NetworkEntry] = {
    "mlp": NetworkEntry(build_mlp, rebuild_mlp),
    "linear": NetworkEntry(build_linear, rebuild_mlp),
    "normed": NetworkEntry(build_normed, rebuild_normed),
    "cnn": NetworkEntry(build_cnn, rebuild_cnn, IMAGES),
    "vgg": NetworkEntry(build_vgg, rebuild_vgg, IMAGES),
    "resnet": NetworkEntry(build_resnet, rebuild_resnet, IMAGES),
    "gcn": NetworkEntry(build_gcn, rebuild_gcn, GRAPHS),
    "sage": NetworkEntry(build_sage, rebuild_sage, GRAPHS),
    "gpt": NetworkEntry(build_gpt, rebuild_gpt, TEXTS),
    "bag": NetworkEntry(build_bag, rebuild_bag, DOCUMENTS),
    "vit": NetworkEntry(build_vit, rebuild_vit, IMAGES),
}
