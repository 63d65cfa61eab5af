"""Models whose numbers are none are not kept."""

from __future__ import annotations

import torch

from moiety.core.types import Params
from moiety.engine.ranks import Ranks


def check_finite(params: Params, number: int) -> None:
    """Refuse to go on with a model that is none any more; losses alone tell of the workers.

    Raises:
        ValueError: with the tensor and the remedy.
    """
    floats = {name: t for name, t in params.items() if t.is_floating_point()}
    sums = [t.sum().double() for t in floats.values()]
    if not sums or torch.stack(sums).isfinite().all():
        return  # read once, for a GPU is waited for at each reading
    for name, tensor in floats.items():
        count = int((~tensor.isfinite()).sum())
        if count:  # a sum may be too large where no number is
            raise ValueError(
                f"round {number}: {count} of {tensor.numel()} numbers of {name} are not finite; "
                "lower the learning rates, of the workers (local.lr) and of the server"
            )


def agree_finite(ranks: Ranks, params: Params, number: int) -> None:
    """Check what this rank holds, and refuse at all ranks together where any has to.

    Raises:
        ValueError: with the tensor and the remedy.
    """
    wrong = ""
    try:
        check_finite(params, number)
    except ValueError as error:
        wrong = str(error)
    for told in ranks.gather(wrong):
        if told:
            raise ValueError(told)
