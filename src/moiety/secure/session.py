"""One secure sum: what is public in it, and what each worker does.

    1. every worker makes keys, and tells the public ones;
    2. it shares its secrets among all, in boxes that pass by the server, which cannot open them;
    3. it sends its vectors, each with a mask of its own and one with every other holder; those of
       two workers cancel;
    4. of those whose vectors came the masks of their own are told, share by share, of the others
       the keys of the masks that nothing cancels; never both of one worker.

Letters: t the threshold.

References:
    Bonawitz et al., *Practical Secure Aggregation for Privacy-Preserving Machine Learning*,
    CCS 2017 (with masks of a worker's own, against a server that follows the protocol).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from moiety.secure.keys import (
    KEY,
    agree_on_key,
    close_box,
    draw_key,
    draw_mask,
    make_public_key,
    open_box,
)
from moiety.secure.ring import wrap
from moiety.secure.shamir import split_secret

Vectors = Mapping[int, Tensor]
"""Cell -> numbers of the ring."""


@dataclass(frozen=True)
class Session:
    """What all know of a sum.

    Args:
        name: of the sum; no other has it.
        holders: of each cell.
        least: as many must hold what is summed, and tell what opens it; t.
        keys: worker -> its public keys, one for masks and one for boxes; of all who take part.
    """

    name: bytes
    holders: tuple[tuple[int, ...], ...]
    least: int
    keys: Mapping[int, bytes]

    def place(self, worker: int) -> int:
        """Give the place of a worker's shares."""
        return sorted(self.keys).index(worker) + 1

    def list_open(self, here: Collection[int]) -> list[int]:
        """List the cells that enough of some workers hold."""
        return [
            cell
            for cell, held in enumerate(self.holders)
            if len(set(held) & set(here)) >= self.least
        ]

    def list_seeds(self, worker: int) -> list[int]:
        """List the cells for which a worker has a mask of its own."""
        return [cell for cell in self.list_open(self.keys) if worker in self.holders[cell]]

    def name_box(self, sender: int, receiver: int) -> bytes:
        """Name a box, so that it can be taken for no other."""
        return self.name + f" box {sender} {receiver}".encode()


@dataclass(frozen=True)
class Secrets:
    """What a worker tells nobody.

    Args:
        worker: whose they are.
        masks: the private key of the masks with others.
        boxes: the private key of the boxes.
        seeds: cell -> the key of the mask of its own.
    """

    worker: int
    masks: bytes = field(default_factory=draw_key, repr=False)
    boxes: bytes = field(default_factory=draw_key, repr=False)
    seeds: Mapping[int, bytes] = field(default_factory=dict, repr=False)

    def tell_keys(self) -> bytes:
        """Give the public keys."""
        return make_public_key(self.masks) + make_public_key(self.boxes)


def share_secrets(secrets: Secrets, session: Session) -> tuple[Secrets, dict[int, bytes]]:
    """Draw the masks of a worker's own, and share its secrets.

    Returns:
        The secrets with the masks, and worker -> a box with its share; also to itself.

    Raises:
        ValueError: where too few take part, or its own keys stand there wrong.
    """
    me = secrets.worker
    if len(session.keys) < session.least or session.keys.get(me) != secrets.tell_keys():
        raise ValueError(
            f"{len(session.keys)} workers take part in a sum of at least {session.least}, with "
            f"{'other' if me in session.keys else 'no'} keys for worker {me}"
        )
    drawn = replace(secrets, seeds={cell: draw_key() for cell in session.list_seeds(me)})
    told = b"".join([drawn.masks, *drawn.seeds.values()])
    places = {worker: session.place(worker) for worker in session.keys}
    shares = split_secret(told, list(places.values()), session.least)
    boxes = {}
    for worker, place in places.items():
        about = session.name_box(me, worker)
        key = agree_on_box_key(drawn, session, worker)
        boxes[worker] = close_box(key, shares[place], about)
    return drawn, boxes


def agree_on_box_key(secrets: Secrets, session: Session, other: int) -> bytes:
    """Agree on the key of the boxes between two workers."""
    return agree_on_key(secrets.boxes, session.keys[other][KEY:], session.name + b" box")


def draw_pair_mask(
    session: Session, private: bytes, pair: tuple[int, int], cell: int, size: int
) -> Tensor:
    """Draw the mask that one worker adds and another takes off, as the first one adds it.

    Args:
        session: the sum.
        private: key of the first one's masks; the second one's gives minus the same.
        pair: the two.
        cell: that is masked.
        size: of its vector.
    """
    one, other = pair
    about = session.name + f" mask {cell}".encode()
    mask = draw_mask(agree_on_key(private, session.keys[other][:KEY], about), size)
    return mask if one < other else -mask


def mask_vectors(
    secrets: Secrets, session: Session, others: Collection[int], vectors: Vectors
) -> dict[int, Tensor]:
    """Mask a worker's vectors.

    Args:
        secrets: of the worker.
        session: the sum.
        others: workers whose boxes came, whether this one is among them or not.
        vectors: of the cells for which it has masks of its own.

    Raises:
        ValueError: for others that are too few, or other vectors.
    """
    me = secrets.worker
    if len({*others, me}) < session.least or vectors.keys() != secrets.seeds.keys():
        raise ValueError(
            f"{len({*others, me})} workers shared their secrets, in a sum of at least "
            f"{session.least}; cells {sorted(vectors)}, but secrets for {sorted(secrets.seeds)}"
        )
    masked = {}
    for cell, vector in vectors.items():
        total = vector.cpu().long() + draw_mask(secrets.seeds[cell], len(vector))
        for other in {*others} & {*session.holders[cell]} - {me}:
            total += draw_pair_mask(session, secrets.masks, (me, other), cell, len(vector))
        masked[cell] = wrap(total).to(torch.int32)
    return masked


def tell_shares(
    secrets: Secrets, session: Session, boxes: Mapping[int, bytes], here: Collection[int]
) -> dict[int, bytes]:
    """Tell what opens the sum of those whose vectors came.

    Args:
        secrets: of the worker who tells.
        session: the sum.
        boxes: worker -> the box that it sent to this one.
        here: workers whose vectors came.

    Returns:
        Worker -> a share: of the masks of its own, in the cells that still enough hold, if its
        vectors came; else of the key of its masks with others.

    Raises:
        ValueError: where those are too few, or strangers, or a box cannot be opened.
    """
    if len(here) < session.least or not {*here} <= boxes.keys():
        raise ValueError(
            f"the vectors of {len(here)} workers came, a sum of fewer than {session.least} is not "
            "opened, nor one with workers that shared no secrets"
        )
    opened = {*session.list_open(here)}
    told = {}
    for worker, box in boxes.items():
        about = session.name_box(worker, secrets.worker)
        share = open_box(agree_on_box_key(secrets, session, worker), box, about)
        keys = [share[at : at + KEY] for at in range(0, len(share), KEY)]
        seeds = dict(zip(session.list_seeds(worker), keys[1:], strict=True))
        told[worker] = (
            b"".join(key for cell, key in seeds.items() if cell in opened)
            if worker in here
            else keys[0]
        )
    return told
