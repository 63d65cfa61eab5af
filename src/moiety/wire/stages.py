"""Stages of a code: each makes fewer or smaller numbers of a flat tensor, by its length alone.

Letters: N entries, K entries kept, G groups, B bytes.

References:
    Alistarh et al., *QSGD*, arXiv:1610.02132 (stochastic rounding to levels);
    Stich, Cordonnier and Jaggi, *Sparsified SGD with Memory*, arXiv:1809.07599 (the largest
    entries); Dettmers et al., arXiv:2110.02861 (a scale for each group of entries).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

GROUP = 64
"""Neighbouring entries that share a scale."""

ROOM = 1 + 2**-8
"""By how much a scale is made larger, so that it is the largest still when rounded to bfloat16."""

SHORT = 1 << 15
"""Entries whose positions fit into 16 bits."""


class CodeStage(Protocol):
    """One step of a code; sizes depend on lengths alone."""

    @property
    def section(self) -> str:
        """What it sends beside the numbers that go on; empty where nothing."""
        ...

    def count(self, size: int, /) -> int:
        """Say how many numbers go on, of so many."""
        ...

    def measure(self, size: int, width: int, /) -> tuple[int, int]:
        """Count the bytes of what is sent beside so many numbers, and of those that go on.

        ``width`` is that of a number, in bytes.
        """
        ...

    def encode(self, values: Tensor, rng: Generator, /) -> tuple[Tensor, Tensor | None]:
        """Give the numbers that go on, and what is sent beside them."""
        ...

    def decode(self, values: Tensor, beside: Tensor | None, size: int, /) -> Tensor:
        """Give back ``size`` numbers.

        Raises:
            ValueError: for what is no such code, with what is wrong.
        """
        ...


def check_form(what: str, tensor: Tensor | None, size: int, dtype: torch.dtype) -> Tensor:
    """Refuse a tensor that has not the form of a code.

    >>> check_form("the places", torch.zeros(2), 2, torch.int32)
    Traceback (most recent call last):
    ValueError: the places are float32 [2], not int32 [2]
    """
    if tensor is None:
        raise ValueError(f"{what} are not there")
    if tensor.dtype != dtype or tensor.shape != (size,):
        found = str(tensor.dtype).removeprefix("torch."), list(tensor.shape)
        asked = str(dtype).removeprefix("torch.")
        raise ValueError(f"{what} are {found[0]} {found[1]}, not {asked} [{size}]")
    return tensor


def refuse_not_finite(what: str, tensor: Tensor) -> None:
    """Refuse numbers that are not finite."""
    if not tensor.is_meta and not bool(tensor.isfinite().all()):
        raise ValueError(f"{what} are not finite")


def draw_shifts(like: Tensor, rng: Generator) -> Tensor:
    """Draw a number of [0, 1) for each entry; of shapes alone, shapes."""
    if like.is_meta:
        return torch.empty_like(like)
    return torch.rand(like.shape, generator=rng).to(like.device)


@dataclass(frozen=True)
class KeepLargest:
    """Send the entries that are largest in absolute value, and where they stood.

    Args:
        share: of the entries that is sent; at least one is.
    """

    share: float
    section: str = "places"

    def count(self, size: int, /) -> int:
        return min(size, max(1, math.ceil(self.share * size)))

    def measure(self, size: int, width: int, /) -> tuple[int, int]:
        kept = self.count(size)
        return kept * choose_place_type(size).itemsize, kept * width

    def encode(self, values: Tensor, rng: Generator, /) -> tuple[Tensor, Tensor | None]:
        del rng
        kept = values.abs().topk(self.count(len(values))).indices.sort().values
        return values[kept], kept.to(choose_place_type(len(values)))

    def decode(self, values: Tensor, beside: Tensor | None, size: int, /) -> Tensor:
        dtype = choose_place_type(size)
        where_K = check_form("the places", beside, self.count(size), dtype).long()
        in_order = bool((where_K.diff() > 0).all()) if not where_K.is_meta else True
        if not where_K.is_meta and (where_K[0] < 0 or where_K[-1] >= size or not in_order):
            raise ValueError(f"the places are not those of {len(where_K)} of {size} entries")
        return values.new_zeros(size).index_copy(0, where_K, values)


def choose_place_type(size: int) -> torch.dtype:
    """Choose the smallest type that has all positions of so many entries."""
    if size <= SHORT:
        return torch.int16
    return torch.int32 if size <= 1 << 31 else torch.int64


@dataclass(frozen=True)
class RoundToBfloat16:
    """Send the nearest bfloat16: 8 bits of precision, the range of float32."""

    section: str = ""

    def count(self, size: int, /) -> int:
        return size

    def measure(self, size: int, width: int, /) -> tuple[int, int]:
        return 0, 2 * size

    def encode(self, values: Tensor, rng: Generator, /) -> tuple[Tensor, Tensor | None]:
        del rng
        return values.to(torch.bfloat16), None

    def decode(self, values: Tensor, beside: Tensor | None, size: int, /) -> Tensor:
        del beside
        return check_form("the numbers", values, size, torch.bfloat16).float()


@dataclass(frozen=True)
class Quantise:
    """Round at random to evenly spaced levels, so that the mean is the number itself.

    Each group of neighbours has ``2 ** bits`` levels from minus its largest absolute value to plus
    that; the entries of a byte lie in it the first lowest. The error of an entry is below one
    step, ``2 / (2 ** bits - 1)`` of the group's largest; a group of zeros stays one.

    Args:
        bits: of an entry: 8, 4 or 2.
    """

    bits: int
    section: str = "scales"

    @property
    def top(self) -> int:
        """The highest level."""
        return 2**self.bits - 1

    def count(self, size: int, /) -> int:
        return size

    def measure(self, size: int, width: int, /) -> tuple[int, int]:
        return 2 * math.ceil(size / GROUP), math.ceil(size * self.bits / 8)

    def encode(self, values: Tensor, rng: Generator, /) -> tuple[Tensor, Tensor | None]:
        count = math.ceil(len(values) / GROUP)
        grouped = F.pad(values.float(), (0, count * GROUP - len(values))).view(count, GROUP)
        scale_G = (grouped.abs().amax(1) * ROOM).to(torch.bfloat16)
        wide = scale_G.float()[:, None]
        place = (grouped / torch.where(wide > 0, wide, 1.0) + 1) * (self.top / 2)
        level = (place + draw_shifts(place, rng)).floor().clamp(0, self.top)
        return pack_levels(level.flatten()[: len(values)].to(torch.uint8), self.bits), scale_G

    def decode(self, values: Tensor, beside: Tensor | None, size: int, /) -> Tensor:
        packed_B = check_form("the levels", values, math.ceil(size * self.bits / 8), torch.uint8)
        scale_G = check_form("the scales", beside, math.ceil(size / GROUP), torch.bfloat16)
        refuse_not_finite("the scales", scale_G)
        level = unpack_levels(packed_B, self.bits)[:size].float()
        wide = scale_G.float().repeat_interleave(GROUP)[:size]
        return (level * (2 / self.top) - 1) * wide


def pack_levels(level_N: Tensor, bits: int) -> Tensor:
    """Lay levels side by side in bytes, the first lowest.

    >>> pack_levels(torch.tensor([1, 2, 3], dtype=torch.uint8), 4).tolist()
    [33, 3]
    """
    if bits == 8:
        return level_N
    each = 8 // bits
    padded = F.pad(level_N, (0, -len(level_N) % each)).view(-1, each).int()
    shifts = torch.arange(0, 8, bits, device=level_N.device)
    return (padded << shifts).sum(1).to(torch.uint8)


def unpack_levels(packed_B: Tensor, bits: int) -> Tensor:
    """Give the levels back, and those that fill up the last byte.

    >>> unpack_levels(torch.tensor([33, 3], dtype=torch.uint8), 4).tolist()
    [1, 2, 3, 0]
    """
    if bits == 8:
        return packed_B
    shifts = torch.arange(0, 8, bits, device=packed_B.device)
    return ((packed_B.int()[:, None] >> shifts) & (2**bits - 1)).flatten()
