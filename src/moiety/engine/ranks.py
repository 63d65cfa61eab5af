"""The processes that ``torchrun`` started, as one group; of one process, where it started none."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.metadata import version
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import HashStore, PrefixStore, Store, TCPStore

from moiety.core.errors import RunError
from moiety.core.transfers import Transfers
from moiety.engine.heartbeat import Heartbeat, end_process
from moiety.engine.meeting import (
    TIMEOUT_VARIABLE,
    RankPlace,
    call_within,
    meet_ranks,
    name_first_line,
    read_place,
    wait_for_port,
)
from moiety.engine.packing import pack_value, unpack_value

NUMBERS_AT_ONCE = 1 << 17
"""Bytes up to which a rank sends to all others at once: then latency counts, not the link."""

TIMEOUT = timedelta(days=7)
"""How long ranks wait for one that evaluates or writes; heartbeats notice one that is lost."""

HUB, LOOK_S = "hub", 2.0
"""The key of the store under which rank 0 tells where it is; seconds in which the heartbeat names
who was lost, once a link has failed."""


class RankLostError(RuntimeError):
    """A rank was lost, or does not answer; the message names it where it is known."""


@dataclass
class Ranks:
    """Who we are among how many; everything here is called by all ranks alike, in one order.

    Args:
        rank: our number; rank 0 leads: it alone writes.
        size: how many there are.
        transfers: payload of tensors that we sent to others so far, and the seconds of that.
        heartbeat: tells the others that we live, and notices who does not.
    """

    rank: int = 0
    size: int = 1
    transfers: Transfers = field(default_factory=Transfers)
    heartbeat: Heartbeat | None = None

    @property
    def leads(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    @contextlib.contextmanager
    def linked(self) -> Iterator[None]:
        """Name the rank that was lost, where an exchange fails.

        Raises:
            RankLostError: for every error of the link.
        """
        try:
            yield
        except RuntimeError as error:
            lost = self.heartbeat.wait_for_loss(LOOK_S) if self.heartbeat is not None else ""
            said = name_first_line(error)
            raise RankLostError(f"{lost}; {said}" if lost else said) from error

    def gather(self, value: Any) -> list[Any]:
        """Give every rank the value of every rank, in order. Only our own processes are read."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        with self.transfers.waiting(), self.linked():
            dist.all_gather_object(found, pack_value(value))
        return [unpack_value(one) for one in found]

    def broadcast(self, value: Any) -> Any:
        """Give every rank the value of rank 0."""
        if self.size == 1:
            return value
        box = [pack_value(value) if self.leads else None]
        with self.linked():
            dist.broadcast_object_list(box, src=0)
        return unpack_value(box[0])

    def agree(self, *, wish: bool) -> bool:
        """Say whether any rank wishes it."""
        if self.size == 1:
            return wish
        asked = torch.tensor([int(wish)])
        with self.linked():
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
        with self.linked():
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

    def gather_flat(self, mine: Tensor, sizes: Sequence[int]) -> list[Tensor]:
        """Give every rank the flat tensor of every rank; ``sizes`` are their lengths."""
        if self.size == 1:
            return [mine]
        return self.all_to_all([mine] * self.size, sizes)

    def join_columns(self, mine: Tensor) -> Tensor:
        """Set the columns [B, b] of all ranks side by side, [B, N]."""
        if self.size == 1:
            return mine
        widths = self.gather(mine.shape[1])
        boxes = self.gather_flat(mine.flatten(), [len(mine) * width for width in widths])
        return torch.cat([box.view(len(mine), -1) for box in boxes], 1)

    def add_up(self, tensor: Tensor) -> Tensor:
        """Add up a small tensor over the ranks."""
        if self.size == 1:
            return tensor
        after = tensor.clone()
        with self.linked():
            dist.all_reduce(after)
        return after

    def count_outgoing(self, parcels: Sequence[Tensor]) -> int:
        """Count the bytes that go to others."""
        others = (p for place, p in enumerate(parcels) if place != self.rank)
        return sum(parcel.numel() * parcel.element_size() for parcel in others)


def wait_for_transfers(under: list[dist.Work | None]) -> None:
    """Wait for what is under way."""
    for one in under:
        if one is not None:
            one.wait()
    under.clear()


def is_under_torchrun() -> bool:
    """Say whether ``torchrun`` started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def explain_loss(lost: str, size: int) -> str:
    """Say that a rank was lost, where nobody knows of a folder to go on from."""
    return f"another rank was lost, or does not answer: {lost}; start all {size} ranks anew"


def join_ranks(
    about: Mapping[str, Any] | None = None, explain: Callable[[str, int], str] = explain_loss
) -> Ranks:
    """Join the other ranks; alone where there are none.

    On a machine with several GPUs every rank takes the one of its local number. What ranks exchange
    travels through the CPU (gloo); nccl is open beside it. Called again in a process that has
    joined, it gives the ranks without watching them a second time.

    Args:
        about: what this rank will play, by field, as plain data; all ranks must say the same.
        explain: makes the last words of a process that waits for a rank which was lost, of who
            it was and how, and the number of ranks.

    Raises:
        RunError: at every rank, if one does not come within the time that
            ``MOIETY_RANKS_TIMEOUT_S`` sets (120 s), or is to play something else.
    """
    if not is_under_torchrun():
        return Ranks()
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    if dist.is_initialized():
        return Ranks(dist.get_rank(), dist.get_world_size())
    place = read_place()
    ranks = Ranks(place.rank, place.size)
    store: Store = HashStore()
    if place.size > 1:
        store = open_store(place)
        all_say = {TIMEOUT_VARIABLE: place.timeout_s, **read_versions(), **(about or {})}
        ranks.heartbeat = meet_ranks(
            place, functools.partial(store.set, HUB), lambda: store.get(HUB).decode(), all_say
        )
        ranks.heartbeat.start(lambda lost: end_process(explain(lost, place.size)))
    both = torch.cuda.is_available() and dist.is_nccl_available()
    with ranks.linked():
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if both else "gloo",
            store=store,
            rank=place.rank,
            world_size=place.size,
            timeout=TIMEOUT,
        )
    return ranks


def open_store(place: RankPlace) -> Store:
    """Open the store by which ranks find each other: rank 0 keeps it, where torchrun does not.

    Raises:
        RunError: if it cannot be opened, or nobody keeps it.
    """
    keeps = place.rank == 0 and not place.is_hosted
    if not keeps:
        wait_for_port(place, time.monotonic() + place.timeout_s)
    wait = timedelta(seconds=place.timeout_s)

    def open_one() -> Store:
        return TCPStore(
            place.host, place.port, place.size, keeps, timeout=wait, wait_for_workers=False
        )

    try:
        store = call_within(place.timeout_s, open_one)
    except (RuntimeError, TimeoutError) as error:
        raise RunError(
            f"rank {place.rank} cannot open {place.host}:{place.port}: {name_first_line(error)}; "
            "choose another MASTER_PORT, the same for all ranks"
        ) from error
    return PrefixStore(f"moiety/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def read_versions() -> dict[str, str]:
    """Give the versions by which ranks must be alike."""
    return {"version of moiety": version("moiety"), "version of torch": torch.__version__}


def leave_ranks(ranks: Ranks, *, stopped: bool = False, reason: str = "") -> None:
    """Leave the other ranks, all at once: one that ends before the others would abort them.

    Args:
        ranks: that were joined.
        stopped: after Ctrl-C, when others may be anywhere: they are not waited for for long.
        reason: what went wrong here; then nobody is waited for, and the others are told.
    """
    if not dist.is_available() or not dist.is_initialized():
        return
    if stopped:
        with contextlib.suppress(RuntimeError, ValueError):
            dist.monitored_barrier(timeout=timedelta(seconds=10))
    elif not reason:
        with ranks.linked():
            dist.barrier()
    if ranks.heartbeat is not None:
        ranks.heartbeat.stop(reason)
    if not reason:
        dist.destroy_process_group()
