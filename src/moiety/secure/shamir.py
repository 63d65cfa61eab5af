"""A secret in shares, of which so many tell it and fewer tell nothing.

Every byte is the value at 0 of a polynomial over the field of 256 elements, whose other
coefficients are drawn; a share is its values at another place.

References:
    Shamir, *How to share a secret*, Communications of the ACM 22 (1979); the field is that of
    AES, with x + 1 as generator.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

MOST = 255
"""Shares at most: places of the field other than 0."""

Bytes = npt.NDArray[np.uint8]


def make_tables() -> tuple[npt.NDArray[np.int64], Bytes]:
    """Make tables of logarithms and powers."""
    power, log, value = np.zeros(2 * MOST, np.uint8), np.zeros(MOST + 1, np.int64), 1
    for place in range(MOST):
        power[place] = power[place + MOST] = value
        log[value] = place
        value ^= value << 1 ^ (0x11B if value & 0x80 else 0)
        value &= 0xFF
    return log, power


LOG, POWER = make_tables()


def multiply(values: Bytes, factor: int) -> Bytes:
    """Multiply elements of the field by one.

    >>> multiply(np.array([0x53, 0], np.uint8), 0xCA).tolist()
    [1, 0]
    """
    if factor == 0:
        return np.zeros_like(values)
    return np.where(values == 0, np.uint8(0), POWER[LOG[values] + LOG[factor]])


def invert(value: int) -> int:
    """Give the inverse of an element that is not 0."""
    return int(POWER[MOST - LOG[value]])


def split_secret(
    secret: bytes,
    places: Sequence[int],
    threshold: int,
    draw: Callable[[int], bytes] = secrets.token_bytes,
) -> dict[int, bytes]:
    """Share a secret.

    Args:
        secret: of any length.
        places: of the shares, different numbers of 1 to 255.
        threshold: shares that tell it.
        draw: gives random bytes.

    Returns:
        Place -> share, as long as the secret.

    >>> shares = split_secret(b"moiety", [1, 2, 9], 2)
    >>> join_secret({9: shares[9], 1: shares[1]})
    b'moiety'
    """
    distinct = set(places)
    if not 1 <= threshold <= len(distinct) == len(places) or not distinct <= {*range(1, MOST + 1)}:
        raise ValueError(f"{threshold=} of shares at {list(places)}: choose places of 1 to {MOST}")
    size = len(secret)
    rows = [np.frombuffer(secret, np.uint8)]
    rows += [np.frombuffer(draw(size), np.uint8) for _ in range(threshold - 1)]
    found = {}
    for place in places:
        value = np.zeros(size, np.uint8)
        for row in reversed(rows):
            value = multiply(value, place) ^ row
        found[place] = value.tobytes()
    return found


def join_secret(shares: Mapping[int, bytes]) -> bytes:
    """Give back a secret of as many shares as its threshold, by Lagrange's formula at 0.

    Raises:
        ValueError: for shares of different lengths.
    """
    if len({len(share) for share in shares.values()}) != 1:
        raise ValueError("shares of one secret have one length")
    total = np.zeros(len(next(iter(shares.values()))), np.uint8)
    for place, share in shares.items():
        factor = np.array([1], np.uint8)
        for other in shares.keys() - {place}:
            factor = multiply(multiply(factor, other), invert(other ^ place))
        total ^= multiply(np.frombuffer(share, np.uint8), int(factor[0]))
    return total.tobytes()
