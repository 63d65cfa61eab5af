"""The networks that a recipe can name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Generator, Tensor

from moiety.core.streams import stream
from moiety.models.base import FeatureModel
from moiety.models.blocks import Sizes
from moiety.models.cnn import cnn
from moiety.models.graph import graphnet
from moiety.models.mlp import mlp
from moiety.models.normed import normed
from moiety.models.residual import ResidualForm
from moiety.models.resnet import resnet
from moiety.models.transformer import gpt
from moiety.models.vgg import vgg
from moiety.models.vit import vit
from moiety.recipes.fields import suggest_names
from moiety.recipes.record import Net

BuildNet = Callable[[Net, Sequence[int], int, Generator], FeatureModel]


@dataclass(frozen=True)
class NetKind:
    """A kind of network.

    Args:
        make: makes it from its record, the shape of a row, the number of classes and a stream.
        about: what it is, in a line.
        shaped: whether it reads rows as they are; otherwise they are flattened.
        tokens: whether it reads texts, whole numbers, instead of measures.
    """

    make: BuildNet
    about: str
    shaped: bool = False
    tokens: bool = False


def build_mlp(net: Net, shape: Sequence[int], classes: int, rng: Generator) -> FeatureModel:
    """Make a perceptron."""
    return mlp((math.prod(shape), *net.hidden, classes), rng)


def build_linear(net: Net, shape: Sequence[int], classes: int, rng: Generator) -> FeatureModel:
    """Make a linear classifier."""
    del net
    return mlp((math.prod(shape), classes), rng)


def build_normed(net: Net, shape: Sequence[int], classes: int, rng: Generator) -> FeatureModel:
    """Make a perceptron with norms."""
    return normed((math.prod(shape), *net.hidden, classes), rng, norm=net.norm)


def require_images(net: Net, shape: Sequence[int]) -> None:
    """Refuse rows that are no images."""
    if len(shape) != 3:
        raise ValueError(
            f"net.kind={net.kind!r} needs images, but rows have shape {tuple(shape)}; use 'mlp'"
        )


def build_cnn(net: Net, shape: Sequence[int], classes: int, rng: Generator) -> FeatureModel:
    """Make a small convolutional network."""
    require_images(net, shape)
    return cnn(shape, classes, rng, channels=net.channels, hidden=net.hidden[0])


def build_vgg(net: Net, shape: Sequence[int], classes: int, rng: Generator) -> FeatureModel:
    """Make sections of convolutions behind batch norms, and layers likewise."""
    require_images(net, shape)
    if len(net.blocks) != len(net.channels):
        raise ValueError(f"{net.blocks=} and {net.channels=}; give one of each for every section")
    filters = [(width,) * count for width, count in zip(net.channels, net.blocks, strict=True)]
    return vgg(shape, classes, rng, filters=filters, hidden=net.hidden, statistics=net.statistics)


def build_resnet(net: Net, shape: Sequence[int], classes: int, rng: Generator) -> FeatureModel:
    """Make a residual network, to be cut along depth or filters."""
    require_images(net, shape)
    form = ResidualForm(net.blocks, net.channels)
    return resnet(shape, classes, rng, form, cut=net.cut, statistics=net.statistics)


def build_graph_net(net: Net, shape: Sequence[int], classes: int, rng: Generator) -> FeatureModel:
    """Make a graph network of the kind named."""
    widths = (math.prod(shape), *net.hidden, classes)
    return graphnet(net.kind, widths, rng, dropout=net.dropout)


def read_sizes(net: Net) -> Sizes:
    """Read the widths of transformer blocks off a record."""
    return Sizes.even(net.width, net.heads, net.hidden[0], net.depth)


def build_gpt(net: Net, shape: Sequence[int], classes: int, rng: Generator) -> FeatureModel:
    """Make a decoder of texts."""
    model = gpt(classes, shape[0], read_sizes(net), rng, shared_blocks=net.shared_blocks)
    return replace(model, lift=net.lift)


def build_vit(net: Net, shape: Sequence[int], classes: int, rng: Generator) -> FeatureModel:
    """Make a transformer of image patches."""
    if len(shape) != 3:
        raise ValueError(f"a ViT needs images, but rows have shape {tuple(shape)}; use 'mlp'")
    model = vit(shape, classes, read_sizes(net), rng, shared_blocks=net.shared_blocks)
    return replace(model, lift=net.lift)


NETS: Mapping[str, NetKind] = {
    "mlp": NetKind(build_mlp, "a perceptron"),
    "linear": NetKind(build_linear, "a linear classifier; it has no axes to deal"),
    "normed": NetKind(
        build_normed, "a perceptron with batch norms and no biases, made to be dealt"
    ),
    "cnn": NetKind(build_cnn, "a small convolutional network (images)", shaped=True),
    "vgg": NetKind(build_vgg, "sections of convolutions behind batch norms (images)", shaped=True),
    "resnet": NetKind(build_resnet, "a residual network, cut by net.cut (images)", shaped=True),
    "gcn": NetKind(build_graph_net, "a graph convolutional network (graphs)"),
    "sage": NetKind(build_graph_net, "GraphSAGE, with means over neighbours (graphs)"),
    "gpt": NetKind(build_gpt, "a transformer that decodes texts (texts)", shaped=True, tokens=True),
    "vit": NetKind(build_vit, "a transformer of image patches (images)", shaped=True),
}


def check_net(net: Net) -> None:
    """Refuse a kind that is not there, and numbers that fit no kind."""
    if net.kind not in NETS:
        raise ValueError(f"network {net.kind!r}{suggest_names(net.kind, NETS)}")
    if not 0 <= net.dropout < 1:
        raise ValueError(f"{net.dropout=}; choose a chance of at least 0 and below 1")
    if not 0 < net.lift < math.inf:
        raise ValueError(f"{net.lift=}; choose a finite factor above 0 (1: none)")


def check_input_type(net: Net, x: Tensor) -> None:
    """Refuse texts for a network that reads measures, and the other way round."""
    if NETS[net.kind].tokens == x.is_floating_point():
        fit = [name for name, kind in NETS.items() if kind.tokens != x.is_floating_point()]
        read = "measures" if x.is_floating_point() else "texts (tokens)"
        raise ValueError(f"network {net.kind!r} cannot read {read}; choose net.kind of {fit}")


def build_network(net: Net, shape: Sequence[int], classes: int, seed: int) -> FeatureModel:
    """Make the network of a worker.

    >>> build_network(Net("mlp", hidden=(3,)), (2, 2), 5, 0).params["layer1.w"].shape
    torch.Size([3, 4])
    """
    check_net(net)
    return NETS[net.kind].make(net, shape, classes, stream(seed, "net"))
