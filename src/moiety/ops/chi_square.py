"""Quantiles of chi-square."""

SURE = 2.326
"""Standard normal quantile of 99 %."""


def find_chi_square(degrees: int) -> float:
    """Find the 99 % quantile of chi-square (Wilson and Hilferty 1931).

    >>> round(find_chi_square(9), 1)
    21.7
    """
    spread = 2 / (9 * degrees)
    return degrees * (1 - spread + SURE * spread**0.5) ** 3
