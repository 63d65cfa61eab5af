"""Each coordinate becomes the precision-weighted mean of those who held it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from moiety.core.fold import Precision
from moiety.core.protocols import Merged
from moiety.core.state import Reply
from moiety.core.store import Store


def read_precision(reply: Reply, /) -> Precision:
    """Weigh a reply as its worker says."""
    return reply.precision


def weigh_by_rows(reply: Reply, /) -> Precision:
    """Weigh a reply by its number of rows as well, as McMahan et al. do."""
    know = reply.precision
    return replace(know, scalar=know.scalar * reply.record.rows)


@dataclass(frozen=True)
class OverlapFold:
    """An overlap under way."""

    weigh: Callable[[Reply], Precision]
    store: Store

    def add(self, reply: Reply, /) -> None:
        self.store.add(reply.share.part, reply.piece, self.weigh(reply))

    def close(self) -> Merged:
        return Merged(*self.store.close())


@dataclass(frozen=True)
class Overlap:
    """Fold replies as they come; nobody's coordinate keeps its value.

    With whole parts this is federated averaging (McMahan et al., arXiv:1602.05629); with parts
    cut along axes it is the mean over holders of IST, HeteroFL and DDOME.

    Args:
        weigh: how well a reply is known.
    """

    weigh: Callable[[Reply], Precision] = read_precision

    def begin(self, store: Store, /) -> OverlapFold:
        return OverlapFold(self.weigh, store)


overlap, overlap_by_rows = Overlap(), Overlap(weigh_by_rows)
