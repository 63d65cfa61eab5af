"""Registered things by name: each is imported when it is looked up, and a list imports none."""

from __future__ import annotations

import ast
import importlib.abc
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

L = TypeVar("L")
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Registry(Mapping[str, T], Generic[L, T]):
    """A mapping from names to entries, of which lines are kept and entries are made.

    Args:
        lines: name -> what is written down of an entry, without importing what it names.
        make: makes an entry of its name and line; imports what it needs.

    >>> squares = Registry({"two": 2, "three": 3}, lambda name, line: (name, line * line))
    >>> squares["three"], list(squares), "four" in squares
    (('three', 9), ['two', 'three'], False)
    """

    lines: Mapping[str, L]
    make: Callable[[str, L], T]

    def __getitem__(self, name: str) -> T:
        return self.make(name, self.lines[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    def __contains__(self, name: object) -> bool:
        return name in self.lines


def read_source_summary(module: str, function: str) -> str:
    """Read the first line of a function's documentation off the source, without importing it.

    Args:
        module: dotted name; the package that it lies in is imported.
        function: a function of that module.

    Raises:
        LookupError: where the module has no source, or the function no documentation there.

    >>> read_source_summary("moiety.core.registry", "read_source_summary")
    "Read the first line of a function's documentation off the source, without importing it."
    """
    spec = importlib.util.find_spec(module)
    loader = None if spec is None else spec.loader
    source = loader.get_source(module) if isinstance(loader, importlib.abc.InspectLoader) else None
    for node in ast.parse(source or "").body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    raise LookupError(f"{module} has no source of a function {function!r}")
