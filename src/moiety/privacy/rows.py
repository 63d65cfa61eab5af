"""The promise to rows: which methods can keep it, and how often a round looks at a row."""

from __future__ import annotations

from dataclasses import replace

from moiety.core.protocols import Method
from moiety.core.solver import Solve
from moiety.privacy.config import PrivacyConfig, find_leak
from moiety.solve.private import PrivateDescent
from moiety.solve.sgd import LocalSGD
from moiety.solve.wrapped import Wrapped

SHARED_LABELS = (
    "privacy.row_clip={}, but local.prior='adjust' puts the labels of all rows of a worker into "
    "the loss of each; say none"
)


def find_descent(solve: Solve) -> LocalSGD | None:
    """Find the plain descent within wrappers, if there is one."""
    while isinstance(solve, Wrapped | PrivateDescent):
        solve = solve.inner
    return solve if isinstance(solve, LocalSGD) else None


def apply_row_privacy(method: Method, config: PrivacyConfig) -> Method:
    """Let workers clip the gradients of their rows and add noise.

    Raises:
        ValueError: for a method whose workers do not descend row by row, or tell more.
    """
    if not config.guards_rows:
        return method
    solve = method.solve
    reason = find_leak(method) or find_coupling(solve)
    if reason or not isinstance(solve, Wrapped | LocalSGD):
        raise ValueError(
            f"privacy.row_clip={config.row_clip}, but of {method.name}, "
            f"{reason or 'workers do not descend row by row; choose another method'}"
        )
    return replace(method, solve=PrivateDescent(solve, config.row_clip, config.row_noise))


def find_coupling(solve: Solve) -> str:
    """Say why a step is no sum over rows, each seen once an epoch; empty where it is."""
    plain = find_descent(solve)
    if plain is None:
        return "workers do not descend row by row; choose another method"
    if plain.draws_noise:
        return (
            "the network or the rows draw noise inside a step (dropout, local.flips, local.crops), "
            "which is drawn for a batch and not for a row; leave it out"
        )
    if plain.window or not plain.epochs:
        return (
            f"local.window={plain.window}, local.epochs={plain.epochs}: how often a row is looked "
            "at must follow from the recipe; say local.window 0 and local.epochs of at least 1"
        )
    return ""


def count_epochs(method: Method) -> int:
    """Say in how many steps of a round a row stands at most."""
    plain = find_descent(method.solve)
    return 0 if plain is None else plain.epochs
