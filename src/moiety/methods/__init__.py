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
    fedrolex,
    fisher,
    fjord,
    gist,
    heterofl,
    ist,
    local_sgd,
    loft,
    resist,
    scaffold,
)
from moiety.methods.demo import Demo


@dataclass(frozen=True)
class MethodEntry:
    """A registered method.

    Args:
        make: makes it.
        demo: the problem on which it must learn.
        cannot: laws (in ``tests/laws``) that it cannot keep -> why; they must go on failing.
        needs_common: whether it reads the common expert; it is refused where there is none.
        starts_common: whether it starts where the common expert ended, if there is one.
        trains: whether it has rounds at all.
        stages: makes the stages of a run, where it has several, of the same options as ``make``.
    """

    make: Callable[..., Method]
    demo: Callable[[Generator], Demo]
    cannot: Mapping[str, str] = field(default_factory=dict)
    stages: Callable[..., Sequence[Stage]] | None = None
    needs_common: bool = False
    starts_common: bool = True
    trains: bool = True


METHODS: Mapping[str, MethodEntry] = {
    "asyncdrop": MethodEntry(asyncdrop.asyncdrop, asyncdrop.demo),
    "data_parallel": MethodEntry(data_parallel.data_parallel, data_parallel.demo),
    "ddome": MethodEntry(ddome.ddome, ddome.demo, needs_common=True),
    "diloco": MethodEntry(diloco.diloco, diloco.demo),
    "dmoe": MethodEntry(dmoe.dmoe, dmoe.demo, dmoe.CANNOT, starts_common=False),
    "fedavg": MethodEntry(fedavg.fedavg, fedavg.demo),
    "fedopt": MethodEntry(fedopt.fedopt, fedopt.demo),
    "fedper": MethodEntry(fedper.fedper, fedper.demo),
    "fedprox": MethodEntry(fedprox.fedprox, fedprox.demo),
    "fedrolex": MethodEntry(fedrolex.fedrolex, fedrolex.demo),
    "fisher": MethodEntry(fisher.fisher, fisher.demo),
    "fjord": MethodEntry(fjord.fjord, fjord.demo),
    "gist": MethodEntry(gist.gist, gist.demo),
    "heterofl": MethodEntry(heterofl.heterofl, heterofl.demo),
    "ist": MethodEntry(ist.ist, ist.demo),
    "local_sgd": MethodEntry(local_sgd.local_sgd, local_sgd.demo),
    "loft": MethodEntry(loft.loft, loft.demo, stages=loft.make_loft_stages),
    "resist": MethodEntry(resist.resist, resist.demo),
    "scaffold": MethodEntry(scaffold.scaffold, scaffold.demo, scaffold.CANNOT),
}
