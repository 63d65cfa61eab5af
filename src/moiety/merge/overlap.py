"""Each coordinate becomes the precision-weighted mean of those who held it."""

from collections.abc import Iterable
from dataclasses import replace

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


def overlap_by_rows(store: Store, replies: Iterable[Reply], /) -> Merged:
    """Fold replies, each weighed by its number of rows as well, as McMahan et al. do."""
    weighed = (
        replace(reply, precision=replace(know, scalar=know.scalar * reply.record.rows))
        for reply in replies
        for know in (reply.precision,)
    )
    return overlap(store, weighed)
