"""What a run begins with, in words: the rows, the features, the target and the workers."""

from __future__ import annotations

from collections.abc import Sequence

from moiety.data.dataset import Dataset
from moiety.recipes.population import Partition, name_workers
from moiety.recipes.record import Population

FEW_CLASSES = 20
"""Classes of which nobody asks whether they are numbers."""

SHOWN = 6
"""Names that are listed before the rest is counted."""


def describe_run_data(
    data: Dataset, places: Partition, population: Population, asked_unseen: int
) -> tuple[str, ...]:
    """Say what was taken for what, in one line, and what a user should look at, a line each.

    Args:
        data: all rows.
        places: who holds which.
        population: as it was settled.
        asked_unseen: how many unseen workers were asked for.
    """
    parts = [
        f"{data.size} rows of {data.source or data.name}",
        describe_features(data),
        describe_target(data),
        describe_workers(data, places, population),
    ]
    return (
        f"data: {'; '.join(parts)}",
        *data.notes,
        *question_target(data),
        *question_workers(data, places, population, asked_unseen),
    )


def list_names(names: Sequence[str]) -> str:
    """List the first names and count the others.

    >>> list_names("abcdefgh")
    'a, b, c, d, e, f and 2 more'
    """
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(repr(one) if "," in one else one for one in names[:SHOWN]) + more


def describe_features(data: Dataset) -> str:
    """Say what the inputs are."""
    shape = "x".join(map(str, data.x.shape[1:]))
    if data.encoding is None:
        return f"inputs of shape {shape}"
    return f"features {list_names(list(data.encoding.needed))} ({shape} {data.encoding.unit})"


def describe_target(data: Dataset) -> str:
    """Say what is to be told, what kind of task that is, and what decides."""
    objective, names = data.find_objective(), ", ".join(data.roles.targets)
    kind = f"{objective.outputs} {objective.name}, scored by {objective.metrics[0].name}"
    return f"target {names} ({kind})" if names else kind


def describe_workers(data: Dataset, places: Partition, population: Population) -> str:
    """Say who holds the rows."""
    unseen = len(places.groups.get("unseen", {}))
    told = f"workers {len(places.train)} and {unseen} unseen"
    names = name_workers(data, places)
    if not names:
        return f"{told} ({population.scheme})"
    seen, apart = names[: len(places.train)], names[len(places.train) :]
    held = f"; unseen: {list_names(apart)}" if apart else ""
    return f"{told}, by {data.roles.group or 'name'}: {list_names(seen)}{held}"


def question_target(data: Dataset) -> list[str]:
    """Say where classes look as if they were none."""
    classes, labels = len(data.classes), data.y
    if labels is None or not data.find_objective().categorical or data.graph is not None:
        return []
    name = f"target {data.roles.label!r}" if data.roles.label else "the target"
    if classes == 1:
        return [f"{name} has one class only, {data.classes[0]!r}: there is nothing to learn"]
    rows = data.size / classes
    if classes > FEW_CLASSES and rows < (10 if all(map(is_number, data.classes)) else 2):
        return [
            f"{name} has {classes} classes for {data.size} rows: is it a number to predict? "
            "(--task numbers)"
        ]
    return []


def is_number(word: str) -> bool:
    """Say whether a word is a number.

    >>> is_number("-3"), is_number("1.5"), is_number("three")
    (True, True, False)
    """
    try:
        float(word)
    except ValueError:
        return False
    return True


def question_workers(
    data: Dataset, places: Partition, population: Population, asked_unseen: int
) -> list[str]:
    """Say where fewer workers are held out than asked for, and where each holds one row."""
    said = []
    if population.unseen < asked_unseen:
        count = len(places.train) + population.unseen
        said.append(
            f"population.unseen is {asked_unseen}, but of {count} workers {population.unseen} are "
            "held out: at most a third of few"
        )
    held = [len(rows) for rows in places.train.values()]
    if data.roles.group and population.scheme == "natural" and held and max(held) == 1:
        said.append(
            f"group {data.roles.group!r} has one row for each of {len(held)} workers: does it name "
            "rows rather than who holds them?"
        )
    return said
