"""Named choices, one file each, with its paper and its demo problem."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from moiety.core.registry import Registry, read_source_summary

if TYPE_CHECKING:
    from torch import Generator

    from moiety.core.protocols import Method
    from moiety.core.stage import Stage
    from moiety.methods.demo import Demo


@dataclass(frozen=True)
class MethodEntry:
    """A registered method.

    Args:
        make: makes it.
        demo: the problem on which it must learn.
        cannot: laws (in ``tests/laws``) that it cannot keep -> why; they must go on failing.
        needs_common: whether it reads the common expert; it is refused where there is none.
        starts_common: whether it starts where the common expert ended, if there is one.
        trains: whether it has rounds at all.
        stages: makes the stages of a run, where it has several, of the same options as ``make``.
    """

    make: Callable[..., Method]
    demo: Callable[[Generator], Demo]
    cannot: Mapping[str, str] = field(default_factory=dict)
    stages: Callable[..., Sequence[Stage]] | None = None
    needs_common: bool = False
    starts_common: bool = True
    trains: bool = True


@dataclass(frozen=True)
class MethodLine:
    """What is written down of a method: its module bears its name, and so does its function.

    Args:
        needs_common: as of the entry.
        starts_common: as of the entry.
        stages: the function of its module that makes the stages, if there is one.
        cannot: the mapping of its module of laws that it cannot keep, if there is one.
    """

    needs_common: bool = False
    starts_common: bool = True
    stages: str = ""
    cannot: str = ""


def enter_method(name: str, line: MethodLine) -> MethodEntry:
    """Import the module of a method, and find its functions."""
    module = importlib.import_module(f"moiety.methods.{name}")
    return MethodEntry(
        make=getattr(module, name),
        demo=module.demo,
        cannot=getattr(module, line.cannot) if line.cannot else {},
        stages=getattr(module, line.stages) if line.stages else None,
        needs_common=line.needs_common,
        starts_common=line.starts_common,
    )


def summarize_method(name: str) -> str:
    """Say what a method does, without importing it."""
    return read_source_summary(f"moiety.methods.{name}", name)


METHODS: Registry[MethodLine, MethodEntry] = Registry(
    {
        "apfl": MethodLine(),
        "asyncdrop": MethodLine(),
        "data_parallel": MethodLine(),
        "ddome": MethodLine(needs_common=True, stages="make_ddome_stages"),
        "diloco": MethodLine(),
        "ditto": MethodLine(),
        "dmoe": MethodLine(starts_common=False, cannot="CANNOT"),
        "ensemble": MethodLine(starts_common=False),
        "fedavg": MethodLine(),
        "fedbn": MethodLine(),
        "fedem": MethodLine(starts_common=False),
        "fedmix": MethodLine(needs_common=True),
        "fedopt": MethodLine(),
        "fedper": MethodLine(),
        "fedprompt": MethodLine(starts_common=False),
        "fedprox": MethodLine(),
        "fedrep": MethodLine(),
        "fedrolex": MethodLine(),
        "fisher": MethodLine(),
        "fjord": MethodLine(),
        "gist": MethodLine(),
        "heterofl": MethodLine(),
        "ifca": MethodLine(starts_common=False, cannot="CANNOT"),
        "ist": MethodLine(),
        "local_sgd": MethodLine(),
        "lora": MethodLine(cannot="CANNOT"),
        "loft": MethodLine(stages="make_loft_stages"),
        "mops": MethodLine(),
        "perfedavg": MethodLine(),
        "resist": MethodLine(),
        "scaffold": MethodLine(cannot="CANNOT"),
    },
    enter_method,
)
