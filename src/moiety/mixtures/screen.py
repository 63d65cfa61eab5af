"""Find local fits that went wrong.

Letters: M machines.
"""

from __future__ import annotations

import numpy as np

from moiety.mixtures.logit import Array

HARMLESS = 0.01  # a divergence per row, both ways together, that no average suffers from


def screen_fits(distance_MM: Array, rows_M: Array) -> Array:
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


def find_excessive_fits(misfit_M: Array, rows_M: Array, parameters: int) -> Array:
    """Tell which fits stand farther from the result than their rows explain, [M].

    Half the parameters is what the misfit of a good fit is near, and leaving one fit out costs
    about as much again divided among the machines. So a fit is worth more outside when its misfit
    exceeds the typical one by more than the typical one; by more than five median deviations, too,
    where machines differ. What is harmless per row sets the least typical misfit.

    Args:
        misfit_M: 2 * rows * squared Hellinger distance from the result.
        rows_M: rows of each machine.
        parameters: free parameters of a fit.
    """
    if len(misfit_M) < 3:
        return np.zeros(len(misfit_M), bool)
    centre = float(np.median(misfit_M))
    deviation = 1.4826 * float(np.median(np.abs(misfit_M - centre)))
    typical = np.maximum(centre, estimate_misfit(rows_M, parameters))
    return misfit_M > typical + np.maximum(5 * deviation, typical)


def estimate_misfit(rows_M: Array, parameters: int) -> Array:
    """Give the misfit that good fits may have, [M]: half the parameters, or what is harmless."""
    return np.minimum(0.5 * parameters, HARMLESS * rows_M)


def are_incompatible(misfit_M: Array, rows_M: Array, parameters: int) -> bool:
    """Tell whether fits differ by more than their rows explain and more than is harmless.

    Then the result stands far from the fits on average, and what one exchange can give is not what
    all rows in one place would: responses are unlike from machine to machine, fits ended in
    different maxima, or rows are few for the parameters.
    """
    good = np.maximum(0.5 * parameters, HARMLESS * rows_M)
    return bool(misfit_M.mean() > 2 * good.mean())


def find_middle(distance_MM: Array, weights_M: Array) -> int:
    """Give the fit with the least weighted divergence from all."""
    return int(np.argmin(weights_M @ distance_MM))
