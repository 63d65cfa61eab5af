"""Random streams with an address: the same draw wherever, whenever and in whatever order."""

import hashlib

import torch

SERVER = -1
"""The worker number of the server's own draws."""


def hash_address(seed: int, *path: int | str) -> int:
    """Fold an address into 63 bits.

    >>> hash_address(0, 3, 7, "plan") == hash_address(0, 3, 7, "plan")
    True
    >>> hash_address(0, 3, 7, "plan") == hash_address(0, 37, "plan")
    False
    """
    # Numbers may come as numpy's or torch's, which print otherwise than Python's own.
    plain = [step if isinstance(step, str) else int(step) for step in (seed, *path)]
    text = repr(tuple(plain)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def stream(seed: int, *path: int | str) -> torch.Generator:
    """Open the stream of an address, usually ``(seed, round, worker, purpose)``.

    >>> torch.equal(torch.rand(2, generator=stream(1, 0, 4, "plan")),
    ...             torch.rand(2, generator=stream(1, 0, 4, "plan")))
    True
    """
    return torch.Generator().manual_seed(hash_address(seed, *path))
