"""The networks that a recipe can name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Generator

from moiety.core.streams import stream
from moiety.models.blocks import Form
from moiety.models.cnn import cnn
from moiety.models.gated import Base
from moiety.models.mlp import mlp
from moiety.models.normed import normed
from moiety.models.resnet import resnet
from moiety.models.vgg import vgg
from moiety.recipes.fields import nearest
from moiety.recipes.record import Net

Make = Callable[[Net, Sequence[int], int, Generator], Base]


@dataclass(frozen=True)
class Kind:
    """A kind of network.

    Args:
        make: makes it from its record, the shape of a row, the number of classes and a stream.
        shaped: whether it reads rows as they are; otherwise they are flattened.
    """

    make: Make
    shaped: bool = False


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


NETS: Mapping[str, Kind] = {
    "mlp": Kind(make_mlp),
    "linear": Kind(make_linear),
    "normed": Kind(make_normed),
    "cnn": Kind(make_cnn, shaped=True),
    "vgg": Kind(make_vgg, shaped=True),
    "resnet": Kind(make_resnet, shaped=True),
}


def check_kind(net: Net) -> None:
    """Refuse a kind that is not there."""
    if net.kind not in NETS:
        raise ValueError(f"network {net.kind!r}{nearest(net.kind, NETS)}")


def network(net: Net, shape: Sequence[int], classes: int, seed: int) -> Base:
    """Make the network of a worker.

    >>> network(Net("mlp", hidden=(3,)), (2, 2), 5, 0).params["layer1.w"].shape
    torch.Size([3, 4])
    """
    check_kind(net)
    return NETS[net.kind].make(net, shape, classes, stream(seed, "net"))
