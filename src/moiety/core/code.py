"""What functions and classes do: told by name where a library brings them, else by their code."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Callable
from types import CellType, CodeType, FunctionType
from typing import Any


def list_captured(function: FunctionType) -> list[tuple[str, Any]]:
    """List what a function closes over, its defaults, and of one's own the globals it names."""
    free = function.__code__.co_freevars
    cells = zip(free, function.__closure__ or (), strict=True)
    parts: list[tuple[str, Any]] = [(name, read_cell(cell)) for name, cell in cells]
    parts += [("defaults", function.__defaults__), ("keywords", function.__kwdefaults__)]
    if not is_library(function.__module__):
        held = function.__globals__
        parts += [(name, held[name]) for name in list_read_names(function.__code__) if name in held]
    return [(name, one) for name, one in parts if one is not None]


def read_cell(cell: CellType) -> Any:
    """Read what a function closed over; nothing where it was never set."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def list_read_names(code: CodeType) -> list[str]:
    """List the names that code reads, also within functions that it makes."""
    names = list(code.co_names)
    for one in code.co_consts:
        if isinstance(one, CodeType):
            names += list_read_names(one)
    return list(dict.fromkeys(names))


def describe_function(function: FunctionType) -> str:
    """Name a function; one's own with a digest of its code."""
    name = name_type(function)
    if is_library(function.__module__):
        return name
    digest = hashlib.sha256()
    feed_code(digest.update, function.__code__)
    return f"{name} with code {digest.hexdigest()[:16]}"


def list_class_parts(kind: type) -> list[tuple[str, Any]]:
    """List what a class of one's own consists of: methods, plain attributes, classes above it."""
    if is_library(kind.__module__):
        return []
    found: list[tuple[str, Any]] = []
    for name, one in vars(kind).items():
        inner = one.fget if isinstance(one, property) else one
        if isinstance(one, staticmethod | classmethod):
            inner = one.__func__
        plain = not name.startswith(("__", "_abc_"))
        if isinstance(inner, FunctionType) or plain:
            found.append((name, inner))
    return [*found, *[(above.__name__, above) for above in kind.__bases__ if above is not object]]


def feed_code(update: Callable[[bytes], object], code: CodeType) -> None:
    """Feed to a digest what code does: not where it stands, nor what its lines are numbered."""
    update(code.co_code)
    update(repr((code.co_names, code.co_varnames, code.co_freevars)).encode())
    for one in code.co_consts:
        if isinstance(one, CodeType):
            feed_code(update, one)
        else:
            update(repr(sorted(one, key=repr) if isinstance(one, frozenset) else one).encode())


def name_type(kind: Any) -> str:
    """Name a class or function: those built in by their plain name."""
    module = kind.__module__ if isinstance(kind.__module__, str) else ""
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


@functools.cache
def is_library(module: object) -> bool:
    """Say whether a module comes with Python, an installed package or this one, by where it lies.

    What a library does is told by its name; what a user wrote, by its code. A compiled type may
    have no name of a module; no user's does.
    """
    if module is not None and not isinstance(module, str):
        return True
    top = (module or "").partition(".")[0]
    if top in sys.stdlib_module_names or top == __name__.partition(".")[0]:
        return True
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return False
    places = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    origin = (spec and spec.origin) or ""
    return origin.startswith(places)
