"""What the server of a secure sum does: it takes off the masks that are left in it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor

from moiety.secure.keys import BOX, KEY, draw_mask, make_public_key
from moiety.secure.ring import wrap
from moiety.secure.session import Session, draw_pair_mask
from moiety.secure.shamir import join_secret


def sum_masks(
    session: Session,
    here: Collection[int],
    told: Mapping[int, Mapping[int, bytes]],
    sizes: Mapping[int, int],
) -> dict[int, Tensor]:
    """Sum up the masks that are left in the sums of those whose vectors came.

    Args:
        session: the sum.
        here: workers whose vectors came.
        told: teller -> worker -> share.
        sizes: length of each cell's vectors.

    Returns:
        Of every cell that enough of those hold, what is to be taken off the sum of its vectors.

    Raises:
        ValueError: where too few told their shares.
    """
    if len(told) < session.least:
        raise ValueError(
            f"{len(told)} workers told their shares, and {session.least} are needed to open a sum"
        )
    tellers = sorted(told)[: session.least]
    total = {cell: torch.zeros(sizes[cell], dtype=torch.int64) for cell in session.list_open(here)}
    for worker in told[tellers[0]]:
        secret = join_secret({session.place(one): told[one][worker] for one in tellers})
        masks = (
            draw_own_masks(session, worker, secret, {c: sizes[c] for c in total})
            if worker in here
            else draw_masks_of_lost(session, (worker, secret), here, {c: sizes[c] for c in total})
        )
        for cell, mask in masks:
            total[cell] += mask
    return {cell: wrap(some) for cell, some in total.items()}


def draw_own_masks(
    session: Session, worker: int, seeds: bytes, sizes: Mapping[int, int]
) -> Iterator[tuple[int, Tensor]]:
    """Draw the masks of a worker's own, of the cells that are opened."""
    cells = [cell for cell in session.list_seeds(worker) if cell in sizes]
    for place, cell in enumerate(cells):
        yield cell, draw_mask(seeds[place * KEY : (place + 1) * KEY], sizes[cell])


def draw_masks_of_lost(
    session: Session, lost: tuple[int, bytes], here: Collection[int], sizes: Mapping[int, int]
) -> Iterator[tuple[int, Tensor]]:
    """Draw the masks that those who came had with a worker who did not; its key is known."""
    worker, private = lost
    if make_public_key(private) != session.keys[worker][:KEY]:
        raise ValueError(f"the shares of worker {worker} are not those of its key")
    for cell in session.list_seeds(worker):
        for one in {*here} & {*session.holders[cell]} if cell in sizes else ():
            yield cell, -draw_pair_mask(session, private, (worker, one), cell, sizes[cell])


def count_exchange(
    holders: tuple[tuple[int, ...], ...], workers: Collection[int], worker: int, least: int
) -> tuple[int, int]:
    """Count the bytes of keys, boxes and shares that pass to and from a worker if none is lost.

    Returns:
        Down and up.

    >>> count_exchange(((1, 2, 3),), [1, 2, 3], 1, 3)
    (468, 436)
    """
    open_ = [{*held} for held in holders if len(held) >= least]
    seeds = {one: sum(one in held for held in open_) for one in workers}
    boxes = {one: BOX + KEY * (1 + seeds[one]) for one in workers}
    keys = 2 * KEY
    down = len(workers) * keys + sum(boxes.values())
    up = keys + len(workers) * boxes[worker] + KEY * sum(seeds.values())
    return down, up
