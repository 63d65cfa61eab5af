"""What a gate that sends each worker a few experts cannot do, by counting alone."""

from __future__ import annotations

from contextlib import suppress
from math import comb

import torch

from moiety.core.protocols import Method
from moiety.plan.abstract import META
from moiety.plan.costs import make_forecast_method
from moiety.plan.outline import AbstractRun
from moiety.recipes.passage import unmask_record
from moiety.recipes.record import Federation
from moiety.split.gated import Gated

SPARE = 0.25
"""Blocks that a worker may touch beyond those it holds before anything is said."""


def count_touched_blocks(classes: int, held: int, blocks: int) -> float:
    """Count of how many blocks a worker of so many classes has some, on average.

    Args:
        classes: in all, shared out evenly among the blocks.
        held: of a worker, drawn at random.
        blocks: of classes, one for each anchor.

    >>> round(count_touched_blocks(10, 4, 5), 2), count_touched_blocks(10, 10, 5)
    (3.33, 5.0)
    """
    sizes = [classes // blocks + (place < classes % blocks) for place in range(blocks)]
    return sum(1 - comb(classes - size, held) / comb(classes, held) for size in sizes)


def foresee_routing(record: Federation, method: Method, classes: int) -> str:
    """Say that workers will hold fewer experts than they need; nothing where they hold enough.

    Args:
        record: of the run; of scheme ``labels`` it is known what workers have.
        method: of which some experts go to a worker.
        classes: in all.
    """
    split, population = method.split, record.population
    held = min(population.classes, classes)
    if not isinstance(split, Gated) or population.scheme != "labels" or not population.anchors:
        return ""
    touched = count_touched_blocks(classes, held, population.anchors)
    if touched <= split.k + SPARE:
        return ""
    return (
        f"{method.name}: a worker of {held} of {classes} classes has rows of {touched:.1f} of the "
        f"{population.anchors} anchors' blocks and holds {split.k} of the experts: the right one "
        f"is at hand for about {split.k / touched:.0%} of its rows. Where one network fits all "
        "classes, averaging was better there (docs/results/ddome.md); raise k, or give workers "
        "fewer classes"
    )


def warn_of_routing(plan: AbstractRun) -> list[str]:
    """Warn of methods whose workers will hold fewer experts than their classes need."""
    said, plain = [], unmask_record(plan.record)
    for name in plan.record.methods:
        with suppress(ValueError), torch.device(META):  # what cannot be made is told elsewhere
            method = make_forecast_method(name, plan.task, plain)
            said.append(foresee_routing(plan.record, method, plan.task.classes))
    return [one for one in said if one]
