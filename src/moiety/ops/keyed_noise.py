"""Gaussian noise that nobody can draw again without the key."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

KEY_BYTES = 32
"""Length of a key."""


def draw_keyed_uniform(key: bytes, address: Sequence[object], count: int) -> np.ndarray:
    """Draw numbers above 0 and up to 1, of 53 bits: a function of key and address.

    They are the output of SHAKE-256 on both. The generators of torch and numpy are no choice here:
    who sees some of their numbers (a coordinate that nobody moved is noise alone) can find the
    others.

    Args:
        key: secret, ``KEY_BYTES`` long.
        address: what tells this draw from all others under the key.
        count: how many.

    >>> one, other = (draw_keyed_uniform(bytes(32), (name,), 2) for name in "ab")
    >>> bool((one == draw_keyed_uniform(bytes(32), ("a",), 2)).all()), bool((one == other).any())
    (True, False)
    """
    assert len(key) == KEY_BYTES
    raw = hashlib.shake_256(key + repr(tuple(address)).encode()).digest(8 * count)
    return ((np.frombuffer(raw, dtype="<u8") >> np.uint64(11)) + 1.0) * 2.0**-53


def draw_keyed_normal(key: bytes, address: Sequence[object], shape: Sequence[int]) -> Tensor:
    """Draw standard normal numbers of that shape, float64, by Box and Muller.

    Two numbers come of two, so none is thrown away; none is beyond 8.6.
    """
    count = math.prod(shape)
    half = -(-count // 2)
    first, second = draw_keyed_uniform(key, address, 2 * half).reshape(2, half)
    radius, angle = np.sqrt(-2.0 * np.log(first)), 2.0 * np.pi * second
    pairs = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    return torch.from_numpy(pairs[:count].reshape(tuple(shape)))
