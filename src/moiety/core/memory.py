"""Whether something fits the machine's memory, asked before it is made piece by piece."""

import os


def read_memory_bytes() -> int:
    """Read the size of the machine's memory, in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_memory(size: int, what: str, remedy: str) -> None:
    """Refuse what cannot fit; a single tensor of such a size torch refuses itself.

    Raises:
        ValueError: with the size asked for and the one there.

    >>> check_memory(10**18, "experts=10 of 2 parameters", "choose fewer")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: experts=10 of 2 parameters need 1000000000000000000 bytes, but this machine has ...
    """
    memory = read_memory_bytes()
    if size > memory:
        raise ValueError(f"{what} need {size} bytes, but this machine has {memory}; {remedy}")
