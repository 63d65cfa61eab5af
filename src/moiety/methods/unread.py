"""Which fields of local training are read, by the optimizer and the schedule that were chosen."""

from __future__ import annotations

from collections.abc import Mapping

BY_OPTIMIZER: Mapping[str, tuple[str, ...]] = {
    "sgd": ("momentum", "nesterov"), "adam": ("betas",), "adamw": ("betas",),
}  # fmt: skip
"""Optimizer -> fields that it alone reads; classes of torch have options of their own."""

BY_SCHEDULE: Mapping[str, tuple[str, ...]] = {
    "constant": (), "cosine": ("warmup", "floor"), "steps": ("drops",),
}  # fmt: skip
"""Schedule -> fields that it alone reads."""

CLASS = (
    "is a class of torch: give it its options, functools.partial(torch.optim.RMSprop, momentum=0.5)"
)


def find_unread(optimizer: object, schedule: str) -> Mapping[str, str]:
    """Find the fields that nothing reads, each with what does not read it.

    >>> list(find_unread("adam", "constant"))
    ['momentum', 'nesterov', 'warmup', 'floor', 'drops']
    """
    name = optimizer if isinstance(optimizer, str) else ""
    why = (
        f"local.optimizer={optimizer!r}"
        if name in BY_OPTIMIZER
        else f"the optimizer, which {CLASS}"
    )
    unread = {
        field: why for one, fields in BY_OPTIMIZER.items() if one != name for field in fields
        if field not in BY_OPTIMIZER.get(name, ())
    }  # fmt: skip
    for one, fields in BY_SCHEDULE.items():
        unread |= {field: f"local.lr_schedule={schedule!r}" for field in fields if one != schedule}
    return unread
