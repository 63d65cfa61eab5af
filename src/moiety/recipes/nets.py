"""The networks that a recipe can name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Generator, Tensor

from moiety.core.streams import stream
from moiety.models.base import Base
from moiety.models.blocks import Sizes
from moiety.models.cnn import cnn
from moiety.models.graph import graphnet
from moiety.models.mlp import mlp
from moiety.models.normed import normed
from moiety.models.residual import Form
from moiety.models.resnet import resnet
from moiety.models.transformer import gpt
from moiety.models.vgg import vgg
from moiety.models.vit import vit
from moiety.recipes.fields import nearest
from moiety.recipes.record import Net

Make = Callable[[Net, Sequence[int], int, Generator], Base]


@dataclass(frozen=True)
class Kind:
    """A kind of network.

    Args:
        make: makes it from its record, the shape of a row, the number of classes and a stream.
        about: what it is, in a line.
        shaped: whether it reads rows as they are; otherwise they are flattened.
        tokens: whether it reads texts, whole numbers, instead of measures.
    """

    make: Make
    about: str
    shaped: bool = False
    tokens: bool = False


def make_mlp(net: Net, shape: Sequence[int], classes: int, rng: Generator) -> Base:
    """Make a perceptron."""
    return mlp((math.prod(shape), *net.hidden, classes), rng)


def make_linear(net: Net, shape: Sequence[int], classes: int, rng: Generator) -> Base:
    """Make a linear classifier."""
    del net
    return mlp((math.prod(shape), classes), rng)


def make_normed(net: Net, shape: Sequence[int], classes: int, rng: Generator) -> Base:
    """Make a perceptron with norms."""
    return normed((math.prod(shape), *net.hidden, classes), rng, norm=net.norm)


def need_images(net: Net, shape: Sequence[int]) -> None:
    """Refuse rows that are no images."""
    if len(shape) != 3:
        raise ValueError(
            f"net.kind={net.kind!r} needs images, but rows have shape {tuple(shape)}; use 'mlp'"
        )


def make_cnn(net: Net, shape: Sequence[int], classes: int, rng: Generator) -> Base:
    """Make a small convolutional network."""
    need_images(net, shape)
    return cnn(shape, classes, rng, channels=net.channels, hidden=net.hidden[0])


def make_vgg(net: Net, shape: Sequence[int], classes: int, rng: Generator) -> Base:
    """Make sections of convolutions behind batch norms, and layers likewise."""
    need_images(net, shape)
    if len(net.blocks) != len(net.channels):
        raise ValueError(f"{net.blocks=} and {net.channels=}; give one of each for every section")
    filters = [(width,) * count for width, count in zip(net.channels, net.blocks, strict=True)]
    return vgg(shape, classes, rng, filters=filters, hidden=net.hidden, statistics=net.statistics)


def make_resnet(net: Net, shape: Sequence[int], classes: int, rng: Generator) -> Base:
    """Make a residual network, to be cut along depth or filters."""
    need_images(net, shape)
    form = Form(net.blocks, net.channels)
    return resnet(shape, classes, rng, form, cut=net.cut, statistics=net.statistics)


def make_graph(net: Net, shape: Sequence[int], classes: int, rng: Generator) -> Base:
    """Make a graph network of the kind named."""
    widths = (math.prod(shape), *net.hidden, classes)
    return graphnet(net.kind, widths, rng, dropout=net.dropout)


def sizes_of(net: Net) -> Sizes:
    """Read the widths of transformer blocks off a record."""
    return Sizes.even(net.width, net.heads, net.hidden[0], net.depth)


def make_gpt(net: Net, shape: Sequence[int], classes: int, rng: Generator) -> Base:
    """Make a decoder of texts."""
    model = gpt(classes, shape[0], sizes_of(net), rng, shared_blocks=net.shared_blocks)
    return replace(model, lift=net.lift)


def make_vit(net: Net, shape: Sequence[int], classes: int, rng: Generator) -> Base:
    """Make a transformer of image patches."""
    if len(shape) != 3:
        raise ValueError(f"a ViT needs images, but rows have shape {tuple(shape)}; use 'mlp'")
    model = vit(shape, classes, sizes_of(net), rng, shared_blocks=net.shared_blocks)
    return replace(model, lift=net.lift)


NETS: Mapping[str, Kind] = {
    "mlp": Kind(make_mlp, "a perceptron"),
    "linear": Kind(make_linear, "a linear classifier; it has no axes to deal"),
    "normed": Kind(make_normed, "a perceptron with batch norms and no biases, made to be dealt"),
    "cnn": Kind(make_cnn, "a small convolutional network (images)", shaped=True),
    "vgg": Kind(make_vgg, "sections of convolutions behind batch norms (images)", shaped=True),
    "resnet": Kind(make_resnet, "a residual network, cut by net.cut (images)", shaped=True),
    "gcn": Kind(make_graph, "a graph convolutional network (graphs)"),
    "sage": Kind(make_graph, "GraphSAGE, with means over neighbours (graphs)"),
    "gpt": Kind(make_gpt, "a transformer that decodes texts (texts)", shaped=True, tokens=True),
    "vit": Kind(make_vit, "a transformer of image patches (images)", shaped=True),
}


def check_kind(net: Net) -> None:
    """Refuse a kind that is not there, and numbers that fit no kind."""
    if net.kind not in NETS:
        raise ValueError(f"network {net.kind!r}{nearest(net.kind, NETS)}")
    if not 0 <= net.dropout < 1:
        raise ValueError(f"{net.dropout=}; choose a chance of at least 0 and below 1")
    if not 0 < net.lift < math.inf:
        raise ValueError(f"{net.lift=}; choose a finite factor above 0 (1: none)")


def check_fit(net: Net, x: Tensor) -> None:
    """Refuse texts for a network that reads measures, and the other way round."""
    if NETS[net.kind].tokens == x.is_floating_point():
        fit = [name for name, kind in NETS.items() if kind.tokens != x.is_floating_point()]
        read = "measures" if x.is_floating_point() else "texts (tokens)"
        raise ValueError(f"network {net.kind!r} cannot read {read}; choose net.kind of {fit}")


def network(net: Net, shape: Sequence[int], classes: int, seed: int) -> Base:
    """Make the network of a worker.

    >>> network(Net("mlp", hidden=(3,)), (2, 2), 5, 0).params["layer1.w"].shape
    torch.Size([3, 4])
    """
    check_kind(net)
    return NETS[net.kind].make(net, shape, classes, stream(seed, "net"))
