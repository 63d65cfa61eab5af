"""The objective of a recipe: of the data, with the loss and metrics that were asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from moiety.data.dataset import Dataset
from moiety.recipes.record import Federation
from moiety.tasks.metrics import choose_metrics


def apply_choices(data: Dataset, record: Federation) -> Dataset:
    """Give data the objective that a record asks for.

    Raises:
        ValueError: for a task that the data do not have, and a choice that the objective has not.
    """
    found = data.find_objective()
    objective: Any = found  # a record of choices
    if record.task and record.task != found.name:
        raise ValueError(
            f"task={record.task!r}, but {data.name} is of {found.name}; leave --task out, or "
            "name other targets"
        )
    said = list_choices(record)
    known = {item.name for item in fields(objective)}
    unread = [f"--{name}" for name in said if name not in known]
    if unread:
        raise ValueError(
            f"{', '.join(unread)}: the objective {found.name} does not read this; leave it out"
        )
    if not said:
        return data
    if "metrics" in said:
        said = {**said, "metrics": choose_metrics(found.name, record.metrics)}
    return replace(data, objective=replace(objective, **said))


def list_choices(record: Federation) -> Mapping[str, Any]:
    """List the choices of a record that are not at their defaults."""
    plain = Federation()
    names = ("loss", "smoothing", "balance", "metrics")
    return {
        name: value for name in names if (value := getattr(record, name)) != getattr(plain, name)
    }
