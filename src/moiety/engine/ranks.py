"""The processes that ``torchrun`` started, as one crew; of one process, where it started none."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from moiety.core.transfers import Transfers

NUMBERS_AT_ONCE = 1 << 17
"""Bytes up to which a rank sends to all others at once: then latency counts, not the link."""

TIMEOUT = timedelta(minutes=60)
"""How long ranks wait for one that evaluates or writes; one that died is noticed at once."""


@dataclass
class Ranks:
    """Who we are among how many; everything here is called by all ranks alike, in one order.

    Args:
        rank: our number; rank 0 leads: it alone writes.
        size: how many there are.
        transfers: payload of tensors that we sent to others so far, and the seconds of that.
    """

    rank: int = 0
    size: int = 1
    transfers: Transfers = field(default_factory=Transfers)

    @property
    def leads(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """Give every rank the value of every rank, in order. Only our own processes are read."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        with self.transfers.waiting():
            dist.all_gather_object(found, pack_value(value))
        return [unpack_value(one) for one in found]

    def share(self, value: Any) -> Any:
        """Give every rank the value of rank 0."""
        if self.size == 1:
            return value
        box = [pack_value(value) if self.leads else None]
        dist.broadcast_object_list(box, src=0)
        return unpack_value(box[0])

    def agree(self, *, wish: bool) -> bool:
        """Say whether any rank wishes it."""
        if self.size == 1:
            return wish
        asked = torch.tensor([int(wish)])
        dist.all_reduce(asked, dist.ReduceOp.MAX)
        return bool(asked)

    def all_to_all(self, parcels: list[Tensor], sizes: Sequence[int]) -> list[Tensor]:
        """Send a flat parcel to each rank, ours to ourselves.

        Args:
            parcels: one for each rank, [numbers], all of one dtype; the list is emptied, so that
                nothing is held twice.
            sizes: how many numbers come from each rank.

        Returns:
            What came from each rank.

        Large parcels go in turns, to the next rank, to the one after it, ...: flows that meet on a
        link slow each other down by more than they carry.
        """
        if self.size == 1:
            return [parcels[0]]
        with self.transfers.sending(self.count_outgoing(parcels)):
            return self.exchange_parcels(parcels, sizes)

    def exchange_parcels(self, parcels: list[Tensor], sizes: Sequence[int]) -> list[Tensor]:
        """Send and receive; the list is emptied."""
        boxes = [parcels[0].new_empty(size) for size in sizes]
        boxes[self.rank] = parcels[self.rank]
        large = sum(parcel.numel() * parcel.element_size() for parcel in parcels) > NUMBERS_AT_ONCE
        under: list[dist.Work | None] = []
        for step in range(1, self.size):
            to, come = (self.rank + step) % self.size, (self.rank - step) % self.size
            if sizes[come]:
                under.append(dist.irecv(boxes[come], come))
            if len(parcels[to]):
                under.append(dist.isend(parcels[to].contiguous(), to))
            if large:
                wait_for_transfers(under)
        wait_for_transfers(under)
        parcels.clear()
        return boxes

    def spread(self, mine: Tensor, sizes: Sequence[int]) -> list[Tensor]:
        """Give every rank the flat tensor of every rank; ``sizes`` are their lengths."""
        if self.size == 1:
            return [mine]
        return self.all_to_all([mine] * self.size, sizes)

    def columns(self, mine: Tensor) -> Tensor:
        """Set the columns [B, b] of all ranks side by side, [B, N]."""
        if self.size == 1:
            return mine
        widths = self.gather(mine.shape[1])
        boxes = self.spread(mine.flatten(), [len(mine) * width for width in widths])
        return torch.cat([box.view(len(mine), -1) for box in boxes], 1)

    def total(self, tensor: Tensor) -> Tensor:
        """Add up a small tensor over the ranks."""
        if self.size == 1:
            return tensor
        after = tensor.clone()
        dist.all_reduce(after)
        return after

    def count_outgoing(self, parcels: Sequence[Tensor]) -> int:
        """Count the bytes that go to others."""
        others = (p for place, p in enumerate(parcels) if place != self.rank)
        return sum(parcel.numel() * parcel.element_size() for parcel in others)


@dataclass(frozen=True)
class PackedValue:
    """A value as bytes, for ranks whose tensors lie on GPUs of their own."""

    data: bytes


def pack_value(value: Any) -> Any:
    """Pack a value where there are GPUs: a tensor pickled plainly comes back on the sender's."""
    if not torch.cuda.is_available():
        return value
    file = io.BytesIO()
    torch.save(value, file)
    return PackedValue(file.getvalue())


def unpack_value(value: Any) -> Any:
    """Give a value back, its tensors on our own device."""
    if not isinstance(value, PackedValue):
        return value
    # Only our own processes are read, as everywhere in this class.
    return torch.load(io.BytesIO(value.data), map_location=place_storage, weights_only=False)


def place_storage(storage: Any, location: str) -> Any:
    """Put a storage that lay on any GPU on ours, and leave others where they are."""
    return storage.cuda(torch.cuda.current_device()) if location.startswith("cuda") else storage


def wait_for_transfers(under: list[dist.Work | None]) -> None:
    """Wait for what is under way."""
    for one in under:
        if one is not None:
            one.wait()
    under.clear()


def is_under_torchrun() -> bool:
    """Say whether ``torchrun`` started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def join_ranks() -> Ranks:
    """Join the other ranks; alone where there are none.

    On a machine with several GPUs every rank takes the one of its local number. What ranks exchange
    travels through the CPU (gloo); nccl is open beside it.
    """
    if not is_under_torchrun():
        return Ranks()
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    if not dist.is_initialized():
        both = torch.cuda.is_available() and dist.is_nccl_available()
        dist.init_process_group("cpu:gloo,cuda:nccl" if both else "gloo", timeout=TIMEOUT)
    return Ranks(dist.get_rank(), dist.get_world_size())


def leave_ranks(*, stopped: bool = False) -> None:
    """Leave the other ranks, all at once: one that ends before the others would abort them.

    Args:
        stopped: after Ctrl-C, when others may be anywhere: they are not waited for for long.
    """
    if not dist.is_available() or not dist.is_initialized():
        return
    if stopped:
        with contextlib.suppress(RuntimeError, ValueError):
            dist.monitored_barrier(timeout=timedelta(seconds=10))
    else:
        dist.barrier()
    dist.destroy_process_group()
