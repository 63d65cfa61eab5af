"""What targets must be: checked before the first round, with the value and the remedy."""

from __future__ import annotations

import torch
from torch import Tensor

from moiety.tasks.losses import UNSCORED

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_whole(y: Tensor, kind: str, wanted: str) -> None:
    """Refuse targets that are not int64.

    Args:
        y: targets.
        kind: of the objective, for the message.
        wanted: what a row should have, likewise.
    """
    if y.dtype != torch.int64:
        numbers = "; for numbers to predict take the objective numbers" if y.dtype in FLOATS else ""
        raise ValueError(
            f"y is {str(y.dtype).removeprefix('torch.')}, but the objective is {kind}: give each "
            f"row {wanted} (y.long()){numbers}"
        )


def select_scored(answer: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Leave out what has no target; positions of rows lie side by side then."""
    here = y != UNSCORED
    return answer[here], y[here]


def find_outside(y: Tensor, count: int, *, unscored: bool) -> Tensor:
    """Give targets back if all lie within 0 and ``count`` (any, where that is 0).

    Raises:
        ValueError: with the first that does not.
    """
    least = UNSCORED if unscored else 0
    bad = (y < least) | ((y >= count) if count else (y < least))
    if bad.any():
        where = tuple(bad.nonzero()[0].tolist())
        hint = "" if unscored else "; leave rows without a target out"
        if unscored:
            hint = f"; {UNSCORED} alone says that there is no target"
        names = f" to {count - 1}" if count else ""
        raise ValueError(
            f"y[{', '.join(map(str, where))}] = {int(y[where])}, but classes count from 0{names}"
            f"{hint}"
        )
    return y


def check_width(out: Tensor, count: int, kind: str) -> Tensor:
    """Give outputs back, [..., count]; refuse any other number of them.

    Raises:
        ValueError: with the shape.
    """
    if out.shape[-1] != count:
        raise ValueError(
            f"the model gives outputs {list(out.shape)}, but there are {count} {kind}; give it "
            f"{count} outputs"
        )
    return out


def check_finite_numbers(y: Tensor) -> None:
    """Refuse targets of which one is no finite number."""
    bad = ~torch.isfinite(y)
    if bad.any():
        where = tuple(bad.nonzero()[0].tolist())
        raise ValueError(
            f"y[{', '.join(map(str, where))}] = {float(y[where])}; leave rows without a target out"
        )
