"""Everything that a value is made of, as named leaves: to tell one run from others, and say how.

Records, mappings, sequences, tensors, modules, functions with what they close over and the globals
they name, and whatever says itself how it is copied are walked alike; there is no list of fields.
"""

from __future__ import annotations

import copyreg
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from types import FunctionType, MethodType, ModuleType
from typing import Any
from weakref import ReferenceType

import torch
from torch import Tensor, nn

from moiety.core.code import (
    describe_function,
    is_library,
    list_captured,
    list_class_parts,
    name_type,
)

PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis))
"""Values that are their own description."""

OPAQUE = "cannot be described"
"""What the leaf of a value begins with of which nothing can be said but its type."""

MODULE_MODES = ("training", "_is_full_backward_hook", "_non_persistent_buffers_set")
"""Attributes of a module that say how it is being called, not what it computes."""


LONG = 80
"""Characters of a plain value from which a digest stands for it."""

Parts = list[tuple[str, Any]]


@dataclass(frozen=True)
class Node:
    """A value as it was taken apart; it is held, so that its id stays its own.

    Args:
        value: itself.
        kind: what it is; all there is to say of it where it has no parts.
        parts: what it is made of, by name.
        digest: of all of it.
    """

    value: Any
    kind: str
    parts: Parts
    digest: str


@dataclass
class Walk:
    """A walk over one value: every part is taken apart once, and told once.

    Args:
        nodes: id -> what was taken apart.
        above: ids of the values that are being taken apart.
        told: digest -> where its value was told first.
    """

    nodes: dict[int, Node] = field(default_factory=dict)
    above: list[int] = field(default_factory=list)
    told: dict[str, str] = field(default_factory=dict)

    def digest(self, value: Any) -> str:
        """Digest a value, of a circle by how far up it leads."""
        if isinstance(value, PLAIN):
            return digest_text(type(value).__name__ + repr(value))
        if id(value) in self.nodes:
            return self.nodes[id(value)].digest
        if id(value) in self.above:
            return f"up {len(self.above) - self.above.index(id(value))}"
        self.above.append(id(value))
        kind, parts = split_value(value)
        inner = [(name, self.digest(part)) for name, part in parts]
        self.above.pop()
        self.nodes[id(value)] = Node(value, kind, parts, digest_text(repr((kind, inner))))
        return self.nodes[id(value)].digest

    def leaves(self, value: Any, path: str) -> Iterator[tuple[str, str]]:
        """Give the leaves of a digested value; of one told before, where that was."""
        if isinstance(value, PLAIN):
            yield path, shorten_plain(value)
            return
        node = self.nodes[id(value)]
        if node.parts and node.digest in self.told:
            yield path, f"as {self.told[node.digest]}"
            return
        self.told[node.digest] = path
        yield path, node.kind
        for name, part in node.parts:
            yield from self.leaves(part, f"{path}.{name}")


def describe_leaves(value: Any, name: str) -> dict[str, str]:
    """Describe a value by its leaves: dotted path -> a plain value, a kind, or a digest.

    Equal values have equal leaves in every process with the same Python and libraries. A value of
    which nothing can be said has a leaf that begins with ``OPAQUE``.

    Args:
        value: anything.
        name: first word of all paths.

    >>> describe_leaves({"lr": 0.5, "sizes": (3,)}, "run")
    {'run': 'dict', 'run.lr': '0.5', 'run.sizes': 'tuple', 'run.sizes.0': '3'}
    """
    walk = Walk()
    walk.digest(value)
    return dict(walk.leaves(value, name))


def digest_text(text: str) -> str:
    """Digest a text, in 16 characters."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def shorten_plain(value: Any) -> str:
    """Write a plain value; of a long one the beginning and a digest."""
    text = repr(value)
    return text if len(text) <= LONG else f"{text[:20]}... {digest_text(text)}"


def split_value(value: Any) -> tuple[str, Parts]:
    """Say what a value is, and what it is made of; of a class of one's own, that class too."""
    kind, parts = split_known(value, name_type(type(value)))
    return kind, [
        *parts,
        *[("class", one) for one in [type(value)] if not is_library(one.__module__)],
    ]


def split_known(value: Any, kind: str) -> tuple[str, Parts]:
    """Split a value by what it is."""
    if is_dataclass(value) and not isinstance(value, type | nn.Module):
        return kind, [(one.name, getattr(value, one.name)) for one in fields(value)]
    for known, split in SPLITS:
        if isinstance(value, known):
            return split(value, kind)
    return split_by_copying(value, kind)


def split_mapping(value: Mapping[Any, Any], kind: str) -> tuple[str, Parts]:
    """Split a mapping by its keys."""
    return kind, [(str(key) or "''", value[key]) for key in value]


def split_sequence(value: Iterable[Any], kind: str) -> tuple[str, Parts]:
    """Split a sequence by places."""
    return kind, [(str(place), one) for place, one in enumerate(value)]


def split_by_copying(value: Any, kind: str) -> tuple[str, Parts]:
    """Split a value as it says itself that it is copied."""
    try:
        reduce = copyreg.dispatch_table.get(type(value))
        told = reduce(value) if reduce else value.__reduce_ex__(4)
    except Exception:  # a value may refuse to be copied with any error
        return f"{OPAQUE} ({kind})", []
    if isinstance(told, str):
        return f"{kind} {told}", []
    state, items, pairs = (*told[2:5], None, None, None)[:3]
    parts: list[tuple[str, Any]] = [("made", told[1])]
    made = getattr(told[0], "__qualname__", "")
    if isinstance(state, Mapping):
        parts += [(str(key), one) for key, one in state.items()]
    elif state is not None:
        parts.append(("state", state))
    parts += [(str(place), one) for place, one in enumerate(items or ())]
    parts += [(str(key), one) for key, one in pairs or ()]
    return f"{kind} by {made}", parts


def split_module(module: nn.Module, kind: str) -> tuple[str, Parts]:
    """Give the attributes of a module, its tensors and layers by their names."""
    own = vars(module)
    tensors = {**own["_parameters"], **own["_buffers"], **own["_modules"]}
    skipped = (*MODULE_MODES, "_parameters", "_buffers", "_modules")
    rest = {name: one for name, one in own.items() if name not in skipped}
    hooks = {name: one for name, one in rest.items() if not (name.startswith("_") and not one)}
    return kind, [*tensors.items(), *hooks.items()]


def digest_tensor(tensor: Tensor) -> str:
    """Describe a tensor by type, shape and a digest of its numbers, wherever they lie.

    >>> digest_tensor(torch.zeros(2, 1)) == digest_tensor(torch.zeros(1, 2))
    False
    """
    digest = hashlib.sha256()
    if not tensor.is_meta:
        dense = tensor.detach().to_dense() if tensor.is_sparse else tensor.detach()
        digest.update(view_numbers(dense))
    kind = str(tensor.dtype).removeprefix("torch.")
    return f"{kind} {list(tensor.shape)} {digest.hexdigest()[:16]}"


def view_numbers(tensor: Tensor) -> Any:
    """View the bytes of a tensor in the order of its rows."""
    plain = tensor.cpu().resolve_conj().resolve_neg().contiguous().flatten()
    return plain.view(torch.uint8).numpy()


SPLITS: Sequence[tuple[Any, Callable[[Any, str], tuple[str, Parts]]]] = (
    (Tensor, lambda value, _: (digest_tensor(value), [])),
    (nn.Module, split_module),
    (Mapping, split_mapping),
    ((list, tuple), split_sequence),
    ((set, frozenset), lambda value, kind: split_sequence(sorted(value, key=repr), kind)),
    (
        MethodType,
        lambda value, _: (f"method {value.__func__.__qualname__}", [("self", value.__self__)]),
    ),
    (FunctionType, lambda value, _: (describe_function(value), list_captured(value))),
    (type, lambda value, _: (name_type(value), list_class_parts(value))),
    (ReferenceType, lambda value, kind: (kind, [("to", value())])),
    (ModuleType, lambda value, _: (f"module {value.__name__}", [])),
)
"""Type -> what takes values of it apart; the first that fits counts."""
