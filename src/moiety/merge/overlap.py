"""Each coordinate becomes the precision-weighted mean of those who held it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from moiety.core.fold import Precision
from moiety.core.protocols import Merged
from moiety.core.state import Reply
from moiety.core.store import Store


def overlap(store: Store, replies: Iterable[Reply], /) -> Merged:
    """Fold replies as they come; nobody's coordinate keeps its value.

    With whole parts this is federated averaging (McMahan et al., arXiv:1602.05629); with parts
    cut along axes it is the mean over holders of IST, HeteroFL and DDOME.
    """
    for reply in replies:
        store.add(reply.share.part, reply.piece, reply.precision)
    params, held = store.close()
    return Merged(params, held)


@dataclass(frozen=True)
class OverlapByRows:
    """Fold replies, each weighed by its number of rows as well, as McMahan et al. do."""

    def weight(self, reply: Reply, /) -> Precision:
        """Say how well a reply is known, rows counted."""
        know = reply.precision
        return replace(know, scalar=know.scalar * reply.record.rows)

    def __call__(self, store: Store, replies: Iterable[Reply], /) -> Merged:
        return overlap(store, (replace(one, precision=self.weight(one)) for one in replies))


overlap_by_rows = OverlapByRows()
