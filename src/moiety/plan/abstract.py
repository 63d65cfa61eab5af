"""Tensors that have shapes and no numbers, beside a few that have both.

Measures are shapes (device ``meta``); whole numbers that say how large something is (edges of a
subgraph, which of its nodes have a label) stay numbers. torch knows no sparse product of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from moiety.core.protocols import Transform
from moiety.core.rows import Rows
from moiety.core.types import Batch, Params

META = "meta"

NUMBERED = ("aten.index.Tensor", "aten.index_put.default", "aten._index_put_impl_.default")
"""What takes shapes by positions that are numbers: a mask of shapes alone has no length."""


def abstract_params(params: Params) -> dict[str, Tensor]:
    """Keep shapes and types of tensors, and no numbers."""
    return {n: torch.empty(t.shape, dtype=t.dtype, device=META) for n, t in params.items()}


def abstract_measures(batch: Batch) -> dict[str, Tensor]:
    """Keep the numbers of whole numbers, and of all else the shapes."""
    return {n: t.to(META) if t.is_floating_point() else t.cpu() for n, t in batch.items()}


def count_storage_bytes(tensor: Tensor) -> int:
    """Count the bytes of what a tensor lies in; a sparse one has indices and values."""
    if tensor.is_sparse:
        return count_storage_bytes(tensor._indices()) + count_storage_bytes(tensor._values())  # noqa: SLF001
    return tensor.untyped_storage().nbytes()


@dataclass(frozen=True)
class AbstractRows:
    """Rows of which measures have shapes alone.

    Args:
        rows: with numbers.
        transform: adds columns, as the method would; None for none.
    """

    rows: Rows
    transform: Transform | None = None

    @property
    def size(self) -> int:
        return self.rows.size

    def take(self, ids: Tensor, /) -> Batch:
        if self.transform is None:
            return abstract_measures(self.rows.take(ids))
        batch = abstract_measures(
            self.rows.take(ids.repeat(2))
        )  # a norm knows no statistics of one row
        with AbstractMode(), torch.no_grad():
            return {name: column[: len(ids)] for name, column in self.transform(batch).items()}


class AbstractMode(TorchDispatchMode):
    """Lets shapes meet numbers while it is open, and counts the operations of sparse products.

    ``flops`` is 2 for each entry of a sparse matrix and column of what it multiplies. torch's
    counter leaves them out forwards and takes them for dense ones backwards; opened within one,
    this mode keeps them from it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def product(self, tensors: Sequence[Tensor]) -> Tensor:
        """Shape a sparse matrix times a dense one; the last two of what is given."""
        sparse, dense = tensors[-2:]
        assert sparse.is_sparse
        self.flops += 2 * sparse._nnz() * dense.shape[1]  # noqa: SLF001 (uncoalesced, as it runs)
        return dense.new_empty(len(sparse), dense.shape[1])

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        named = dict(kwargs or {})
        tensors = list(iterate_tensors((*args, *named.values())))
        if not any(tensor.is_meta for tensor in tensors):
            return func(*args, **named)
        if any(tensor.is_sparse for tensor in tensors):
            return self.product(tensors)
        if str(func) == "aten._to_copy.default":
            named["device"] = META  # shapes stay shapes where numbers would move
        elif any(map(has_numbers, tensors)) and str(func) not in NUMBERED:
            args = tree_map(to_abstract, args)
        return func(*args, **named)


def iterate_tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Give the tensors among some arguments, and in lists of them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from iterate_tensors(value)


def has_numbers(tensor: Tensor) -> bool:
    """Say whether a tensor has numbers, and more than one: one alone meets any device."""
    return tensor.ndim > 0 and not tensor.is_meta


def to_abstract(value: Any) -> Any:
    """Take its numbers from a tensor."""
    return value.to(META) if isinstance(value, Tensor) and has_numbers(value) else value
