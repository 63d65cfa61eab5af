"""Find local fits that went wrong.

Letters: M machines.
"""

from __future__ import annotations

import numpy as np

from moiety.ops.mixture.logit import Array

HARMLESS = 0.01  # a divergence per row, both ways together, that no average suffers from


def screened(distance_MM: Array, rows_M: Array) -> Array:
    """Tell which fits stand among the others, [M].

    The divergence of two good fits shrinks as 1/rows of one plus 1/rows of the other, so it is
    divided by that before fits are compared. A fit is dropped when its divergence to and from the
    middle fit is not finite, or is not harmless and above the median by more than eight median
    deviations and above five times the median. Of one or two fits, nobody can tell which is wrong.
    """
    both = distance_MM + distance_MM.T
    both = np.where(np.isfinite(both), both, np.inf)
    even = both / (1 / rows_M[:, None] + 1 / rows_M)
    finite = np.isfinite(both).mean(1) > 0.5
    if len(both) < 3 or not finite.any():
        return finite
    centre = int(np.argmin(np.median(even, 1)))
    others = np.delete(even[centre], centre)
    typical = np.median(others)
    if not np.isfinite(typical):
        return finite
    deviation = 1.4826 * float(np.median(np.abs(others[np.isfinite(others)] - typical)))
    limit = typical + max(8 * deviation, 4 * typical)
    return finite & ((even[centre] <= limit) | (both[centre] <= HARMLESS))


def middle(distance_MM: Array, weights_M: Array) -> int:
    """Give the fit with the least weighted divergence from all."""
    return int(np.argmin(weights_M @ distance_MM))
