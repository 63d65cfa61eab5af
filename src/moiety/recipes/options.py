"""The options of every registered method, read off its keyword arguments.

``moiety run RECIPE --ddome.k 3`` works because ``ddome`` has a keyword argument ``k``; a new
method needs nothing here.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, field, make_dataclass
from typing import Any

from moiety.core.protocols import Method
from moiety.core.stage import Stage
from moiety.methods import METHODS
from moiety.methods.task import Task


def make_options_record(name: str, make: Callable[..., Method]) -> type:
    """Make a frozen record of a method's keyword arguments, with its own documentation."""
    hints = typing.get_type_hints(make)
    fields = [
        (option.name, hints[option.name], field(default=option.default))
        for option in inspect.signature(make).parameters.values()
        if option.kind is option.KEYWORD_ONLY
    ]
    record = make_dataclass(name.capitalize(), fields, frozen=True)
    record.__doc__ = inspect.getdoc(make)
    return record


RECORDS: Mapping[str, type] = {
    name: record
    for name, entry in METHODS.items()
    if (record := make_options_record(name, entry.make)).__dataclass_fields__
}

if typing.TYPE_CHECKING:

    class Options:
        """One record of options per method that has some."""
else:
    Options = make_dataclass(
        "Options",
        [(name, record, field(default_factory=record)) for name, record in RECORDS.items()],
        frozen=True,
    )
    Options.__doc__ = "One record of options per method that has some."


def get_options(options: Options, name: str) -> Mapping[str, Any]:
    """Give the options of one method as keyword arguments."""
    return asdict(getattr(options, name)) if name in RECORDS else {}


def make_method(name: str, task: Task, options: Options) -> Method:
    """Make a method by name, with its options."""
    return METHODS[name].make(task, **get_options(options, name))


def make_stages(name: str, task: Task, options: Options) -> Sequence[Stage]:
    """Make the stages of a run by the name of its method, with its options."""
    several = METHODS[name].stages
    if several is None:
        return [Stage(make_method(name, task, options), task.rounds)]
    return several(task, **get_options(options, name))


def with_options(**chosen: Mapping[str, Any]) -> Options:
    """Choose options by method: ``with_options(ddome={"k": 3})``."""
    made: Any = Options
    return made(**{name: RECORDS[name](**values) for name, values in chosen.items()})
