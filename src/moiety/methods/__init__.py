"""Named choices, one file each, with its paper and its demo problem."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Generator

from moiety.core.protocols import Method
from moiety.methods import ddome, fedavg, fedopt, fedper, fedprox
from moiety.methods.demo import Demo


@dataclass(frozen=True)
class Entry:
    """A registered method: how to make it, and the problem on which it must learn."""

    make: Callable[..., Method]
    demo: Callable[[Generator], Demo]


METHODS: Mapping[str, Entry] = {
    "ddome": Entry(ddome.ddome, ddome.demo),
    "fedavg": Entry(fedavg.fedavg, fedavg.demo),
    "fedopt": Entry(fedopt.fedopt, fedopt.demo),
    "fedper": Entry(fedper.fedper, fedper.demo),
    "fedprox": Entry(fedprox.fedprox, fedprox.demo),
}
