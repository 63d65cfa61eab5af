"""Named choices, one file each, with its paper and its demo problem."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Generator

from moiety.core.protocols import Method
from moiety.core.stage import Stage
from moiety.methods import (
    asyncdrop,
    data_parallel,
    ddome,
    diloco,
    dmoe,
    fedavg,
    fedopt,
    fedper,
    fedprox,
    fjord,
    gist,
    heterofl,
    ist,
    local_sgd,
    loft,
    resist,
)
from moiety.methods.demo import Demo


@dataclass(frozen=True)
class Entry:
    """A registered method.

    Args:
        make: makes it.
        demo: the problem on which it must learn.
        cannot: laws (in ``tests/laws``) that it cannot keep -> why; they must go on failing.
        stages: makes the stages of a run, where it has several, of the same options as ``make``.
    """

    make: Callable[..., Method]
    demo: Callable[[Generator], Demo]
    cannot: Mapping[str, str] = field(default_factory=dict)
    stages: Callable[..., Sequence[Stage]] | None = None


METHODS: Mapping[str, Entry] = {
    "asyncdrop": Entry(asyncdrop.asyncdrop, asyncdrop.demo),
    "data_parallel": Entry(data_parallel.data_parallel, data_parallel.demo),
    "ddome": Entry(ddome.ddome, ddome.demo),
    "diloco": Entry(diloco.diloco, diloco.demo),
    "dmoe": Entry(dmoe.dmoe, dmoe.demo, dmoe.CANNOT),
    "fedavg": Entry(fedavg.fedavg, fedavg.demo),
    "fedopt": Entry(fedopt.fedopt, fedopt.demo),
    "fedper": Entry(fedper.fedper, fedper.demo),
    "fedprox": Entry(fedprox.fedprox, fedprox.demo),
    "gist": Entry(gist.gist, gist.demo),
    "fjord": Entry(fjord.fjord, fjord.demo),
    "heterofl": Entry(heterofl.heterofl, heterofl.demo),
    "ist": Entry(ist.ist, ist.demo),
    "local_sgd": Entry(local_sgd.local_sgd, local_sgd.demo),
    "loft": Entry(loft.loft, loft.demo, stages=loft.stages),
    "resist": Entry(resist.resist, resist.demo),
}
