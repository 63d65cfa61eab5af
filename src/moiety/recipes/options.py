"""The options of every registered method and network, read off its keyword arguments.

``moiety run RECIPE --ddome.k 3`` works because ``ddome`` has a keyword argument ``k``, and
``--mlp.hidden 32`` because ``build_mlp`` has one named ``hidden``; what is new needs nothing here.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, field, make_dataclass, replace
from typing import Any

from moiety.core.errors import UnknownNameError
from moiety.core.protocols import Method
from moiety.core.stage import Stage
from moiety.core.streams import stream
from moiety.methods import METHODS, MethodEntry
from moiety.methods.fedavg import demo, fedavg
from moiety.methods.task import Task
from moiety.models.base import FeatureModel
from moiety.models.networks import NETWORKS
from moiety.recipes import REFERENCE
from moiety.recipes.fields import CATALOGUE, suggest_names


def make_options_record(name: str, make: Callable[..., Any]) -> type:
    """Make a frozen record of a function's keyword-only arguments, with its own documentation."""
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
    for name, entry in [*NETWORKS.items(), *METHODS.items()]
    if (record := make_options_record(name, entry.make)).__dataclass_fields__
}

if typing.TYPE_CHECKING:

    class Options:
        """One record of options per method and network that has some."""
else:
    Options = make_dataclass(
        "Options",
        [(name, record, field(default_factory=record)) for name, record in RECORDS.items()],
        frozen=True,
    )
    Options.__doc__ = "One record of options per method and network that has some."


def play_common(task: Task) -> Method:
    """Keep the common expert as it is: what every method that starts there is measured against."""
    return replace(fedavg(task), name=REFERENCE)


PLAYED: Mapping[str, MethodEntry] = {
    **METHODS,
    REFERENCE: MethodEntry(
        play_common,
        demo,
        stages=lambda task: [Stage(play_common(task), 0)],
        needs_common=True,
        trains=False,
    ),
}
"""What a recipe can name as a method: the methods, and the common expert alone."""


def find_method(name: str) -> MethodEntry:
    """Find a method by name.

    Raises:
        ValueError: for one that is not there, with the nearest names.
    """
    if name not in PLAYED:
        raise UnknownNameError(f"unknown method {name!r}{suggest_names(name, PLAYED, CATALOGUE)}")
    return PLAYED[name]


def get_options(options: Options, name: str) -> Mapping[str, Any]:
    """Give the options of one method or network as keyword arguments."""
    return asdict(getattr(options, name)) if name in RECORDS else {}


def make_network(
    name: str, options: Options, shape: Sequence[int], classes: int, seed: int
) -> FeatureModel:
    """Make the network of a worker by name, with its options.

    >>> options = with_options(mlp={"hidden": (3,)})
    >>> make_network("mlp", options, (2, 2), 5, 0).params["layer1.w"].shape
    torch.Size([3, 4])
    """
    return NETWORKS[name].make(shape, classes, stream(seed, "net"), **get_options(options, name))


def make_method(name: str, task: Task, options: Options) -> Method:
    """Make a method by name, with its options."""
    return find_method(name).make(task, **get_options(options, name))


def make_stages(name: str, task: Task, options: Options) -> Sequence[Stage]:
    """Make the stages of a run by the name of its method, with its options."""
    several = find_method(name).stages
    if several is None:
        return [Stage(make_method(name, task, options), task.rounds)]
    return several(task, **get_options(options, name))


def keep_options(options: Options, names: Collection[str]) -> Options:
    """Keep the options of some methods and networks; others are as their functions have them."""
    made: Any = Options
    return made(**{name: getattr(options, name) for name in names if name in RECORDS})


def with_options(**chosen: Mapping[str, Any]) -> Options:
    """Choose options by method or network: ``with_options(ddome={"k": 3})``."""
    made: Any = Options
    return made(**{name: RECORDS[name](**values) for name, values in chosen.items()})
