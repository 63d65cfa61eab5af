"""Stepping on a piece that is ours alone, and counting what that takes."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from moiety.core.solver import Descent, Solve
from moiety.core.types import Carry
from moiety.engine.work import BatchSteps, compute_gradient


def run_owned_steps(
    solve: Solve, carry: Carry, steps: BatchSteps, role: str
) -> tuple[Carry, Tensor | None]:
    """Step through a plan, moving the piece itself: ``walk_in_place`` without a copy."""
    assert isinstance(solve, Descent)
    params = {name: t.detach().requires_grad_() for name, t in carry["params"].items()}
    carry, losses = {**carry, "params": params}, []
    for batch, lr in steps:
        grads, loss = compute_gradient(solve, carry, batch, role)
        carry = {**carry, "frozen": loss[1]}
        with torch.no_grad():
            solve.move_in_place(carry, grads, lr)
        del grads
        losses.append(loss[0])
    carry = {**carry, "params": {n: t.detach() for n, t in params.items()}}
    return carry, torch.stack(losses) if losses else None


class MemoryMeter(TorchDispatchMode):
    """Counts the bytes of live tensors made while it is open; ``most`` is their peak.

    What autograd keeps between passes counts as well, buffers inside a kernel do not; a sparse
    tensor is no more than the tensors it was made of.

    Args:
        limit: bytes above which a further tensor is a ``MemoryError``; 0 for none.
        count_abstract: whether tensors that have shapes alone count too.
    """

    def __init__(self, limit: int = 0, *, count_abstract: bool = False) -> None:
        super().__init__()
        self.limit, self.count_abstract = limit, count_abstract
        self.now = self.most = 0
        self.known: dict[int, Any] = {}

    def count_tensor(self, tensor: Tensor) -> None:
        """Count a tensor's storage, once, until it is let go."""
        if tensor.is_sparse or (tensor.is_meta and not self.count_abstract):
            return
        storage = tensor.untyped_storage()
        key = storage._cdata  # noqa: SLF001 (the one name of a storage that views share)
        if key in self.known:
            return
        size = storage.nbytes()
        self.now += size
        self.most = max(self.most, self.now)
        if 0 < self.limit < self.most:
            raise MemoryError(f"{self.most:,} bytes of tensors, above the limit of {self.limit:,}")
        self.known[key] = weakref.ref(storage, lambda _: self.release(key, size))

    def release(self, key: int, size: int) -> None:
        """Forget a storage."""
        if self.known.pop(key, None) is not None:
            self.now -= size

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor):
                self.count_tensor(leaf)
        return found
