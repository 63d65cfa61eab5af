"""Whether a run's sums are secure: fields of a recipe, and the method that they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from moiety.core.axes import read_axis_lengths
from moiety.core.protocols import Method, Split
from moiety.core.solver import Descent, Solve
from moiety.core.state import State, Turn
from moiety.core.streams import SERVER, stream
from moiety.merge.overlap import overlap_by_rows
from moiety.merge.robust import MEANS, Robust
from moiety.secure.ends import RingSender, RingSum, SummedWire, SumRule, TellHolders
from moiety.secure.ring import Scale
from moiety.secure.shamir import MOST
from moiety.solve.wrapped import Wrapped

TRIED = 8
"""Rounds of a split that are looked at before the first."""


@dataclass(frozen=True)
class SecureConfig:
    """Whether the server sees sums alone (see docs/secure.md).

    Args:
        threshold: what fewer than so many workers hold is not summed, and as many must tell their
            shares to open a sum; 0 for no secure sums.
        range: the largest change of a number in a round; a worker with a larger one adds nothing.
        rows: with local.by_rows, the largest number of rows of a worker.
    """

    threshold: int = 0
    range: float = 8.0
    rows: int = 0

    def check(self) -> None:
        """Refuse numbers that make no sum.

        Raises:
            ValueError: with the value and the remedy.
        """
        if not self.threshold and self != SecureConfig():
            raise ValueError(
                f"secure.range={self.range}, secure.rows={self.rows} are read with "
                "secure.threshold alone; leave them out, or say --secure.threshold 3"
            )
        if self.threshold == 1 or not 0 <= self.threshold <= MOST:
            raise ValueError(
                f"secure.threshold={self.threshold}: a sum of one is the individual; choose 2 to "
                f"{MOST} workers, or 0 for no secure sums"
            )
        if not 0 < self.range < float("inf") or self.rows < 0:
            raise ValueError(
                f"secure.range={self.range}, secure.rows={self.rows}; choose a finite range above "
                "0, and rows of at least 0"
            )


def apply_secure(method: Method, config: SecureConfig, workers: int, seed: int) -> Method:
    """Let the server see sums alone.

    Args:
        method: whose replies are summed.
        config: how.
        workers: of a round, at most.
        seed: of the run.

    Raises:
        ValueError: where what workers send is no sum, or nobody holds enough with others.
    """
    config.check()
    if not config.threshold:
        return method
    refuse_no_sum(method, config)
    if not config.threshold <= workers <= MOST:
        raise ValueError(
            f"secure.threshold={config.threshold}, but a round has {workers} workers "
            f"(participation.size); choose {config.threshold} to {MOST} workers a round"
        )
    refuse_lonely_parts(method, config.threshold, workers, seed)
    by_rows = method.merge == overlap_by_rows
    if by_rows != bool(config.rows):
        raise ValueError(
            f"local.by_rows={by_rows}, secure.rows={config.rows}: a sum must know the largest "
            "weight beforehand, and reads it where rows weigh alone; say --secure.rows N with "
            "--local.by-rows, N at least the rows of any worker"
        )
    Scale(config.range, max(1, config.rows), workers)
    solve, params = method.solve, method.first or method.model.params
    assert isinstance(solve, Descent)
    whole = {
        name: torch.empty(t.shape, dtype=t.dtype, device="meta")
        for name, t in params.items()
        if method.model.buffers.get(name) != "keep"
    }
    rule = SumRule(config.threshold, config.range, config.rows, whole, method.model.axes)
    return replace(
        method,
        split=TellHolders(method.split),
        solve=Wrapped(solve, end=RingSender(rule).end),
        merge=RingSum(rule),
        wire=SummedWire(rule, method.wire),
    )


def refuse_no_sum(method: Method, config: SecureConfig) -> None:
    """Refuse a method whose replies are more than one sum.

    Raises:
        ValueError: with the reason.
    """
    said = f"secure.threshold={config.threshold} gives the server sums alone, but"
    rule = method.merge.merging.kind if isinstance(method.merge, Robust) else ""
    if rule:
        raise ValueError(
            f"{said} merge.kind={rule!r} looks at every reply by itself; leave one of them out"
        )
    if method.merge not in MEANS or not isinstance(method.solve, Descent):
        raise ValueError(
            f"{said} {method.name} merges by {type(method.merge).__name__}, which is no mean over "
            "holders of what workers trained; leave secure out"
        )
    sent = method.first or method.model.params
    if method.worker_means or method.solve.first_optimizer_state(sent):
        raise ValueError(
            f"{said} the workers of {method.name} send memory besides (control variates, or that "
            "of an optimizer); take local.optimizer_state='reset', or another method"
        )
    if weighs_pieces(method.solve):
        raise ValueError(
            f"{said} the workers of {method.name} tell how well they know what they send, in "
            "clear (Fisher's diagonal, use of experts); merge by holders, or leave secure out"
        )


def weighs_pieces(solve: Solve) -> bool:
    """Say whether workers send precisions with their pieces."""
    while isinstance(solve, Wrapped):
        if solve.weighs:
            return True
        solve = solve.inner
    return False


def refuse_lonely_parts(method: Method, least: int, workers: int, seed: int) -> None:
    """Refuse a split that never gives anything to enough workers, where it can be foreseen.

    Raises:
        ValueError: with the axis, and how many hold an index of it at most.
    """
    if method.query is not None:
        return  # the answers decide, round by round
    params = method.first or method.model.params
    lengths = read_axis_lengths(params, method.model.axes)
    found = count_most_holders(method.split, State(params), lengths, workers, seed)
    lonely = {axis: most for axis, most in found.items() if most < least}
    if lonely:
        axis, most = min(lonely.items(), key=lambda one: one[1])
        reason = ": a sum of one is the individual" if most == 1 else ""
        raise ValueError(
            f"secure.threshold={least} sums what so many workers hold, but with {method.name} no "
            f"index of {axis} has more than {most} of a round's {workers}{reason}. Take a method "
            "whose parts overlap (fjord, heterofl, fedrolex), whole models (fedavg), or leave "
            "secure out"
        )


def count_most_holders(
    split: Split, state: State, lengths: Mapping[str, int], workers: int, seed: int
) -> dict[str, int]:
    """Count how many workers hold an index of each axis that is cut, at most, in some rounds."""
    cohort, most = tuple(range(workers)), dict[str, int]()
    with torch.device("cpu"):  # a plan makes all else of shapes alone
        for number in range(TRIED):
            rng = stream(seed, number, SERVER, "split")
            turn = Turn(number, cohort, {}, rng, workers)
            parts = [share.part for share in split(replace(state, round=number), turn).values()]
            for axis in sorted({axis for part in parts for axis in part.axes}):
                held = torch.zeros(lengths[axis], dtype=torch.long)
                for part in parts:
                    held[part.axes.get(axis, torch.arange(lengths[axis]))] += 1
                most[axis] = max(most.get(axis, 0), int(held.max()))
    return most
