"""Options that have another name now: refused, and the new name told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from moiety.recipes.options import RECORDS

PARTICIPATION = ("size", "anchors", "chance", "fixed")
SCHEDULE = ("kind", "size", "window", "rate", "staleness", "power", "change", "patience")
SPEEDS = ("kind", "values", "jitter", "by_size")

RENAMED: Mapping[str, str] = {
    **{f"turnout.{name}": f"participation.{name}" for name in PARTICIPATION},
    **{f"pace.{name}": f"schedule.{name}" for name in SCHEDULE},
    **{f"pace.speeds.{name}": f"schedule.speeds.{name}" for name in SPEEDS},
    "keep.every": "checkpoint.every",
    "keep.last": "checkpoint.last",
    "common.target": "common.target_accuracy",
    "population.together": "population.shared_test",
    "population.first": "population.first_rows",
    "local.schedule": "local.lr_schedule",
    "local.moments": "local.optimizer_state",
    "diloco.outer_lr": "diloco.server_lr",
    "diloco.outer_momentum": "diloco.server_momentum",
    "ist.deal": "ist.assignment",
    "resist.deal": "resist.assigned",
    "net.kind": "net",
}
"""Old dotted name -> the new one."""

VALUES: Mapping[str, str] = {
    "pace.kind": "; buffer is now buffered, window is windowed",
    "local.moments": "; carry is now send",
}
"""Old dotted name -> what became of its values, where they have another name too."""


def refuse_old_names(names: Iterable[str], net: str) -> None:
    """Refuse the first option that has another name now.

    Args:
        names: dotted, with underscores or hyphens.
        net: the network of the run; what was ``net.hidden`` stands under its name.

    Raises:
        ValueError: with the new name.

    >>> refuse_old_names(["turnout.size"], "mlp")
    Traceback (most recent call last):
    ValueError: --turnout.size is now --participation.size
    """
    for name in names:
        head, dot, tail = name.replace("-", "_").rpartition(".")
        old = f"{head}{dot}{tail.removeprefix('no_')}"
        if old in RENAMED:
            told = VALUES.get(old, "")
            raise ValueError(f"--{name} is now --{spell_option(RENAMED[old])}{told}")
        if head == "net":
            raise ValueError(f"--{name} is now {explain_network_option(tail, net)}")


def explain_network_option(option: str, net: str) -> str:
    """Say where an option of the network stands, and whether this one has it."""
    having = [name for name, record in RECORDS.items() if option in record.__dataclass_fields__]
    if net in having:
        return f"--{net}.{spell_option(option)}"
    return f"an option under the network's name, and {net} has none of this name"


def spell_option(name: str) -> str:
    """Spell a name as the command line does."""
    return name.replace("_", "-")
