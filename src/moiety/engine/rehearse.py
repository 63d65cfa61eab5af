"""A round without numbers: jobs walked on tensors that have shapes alone, to learn what they cost.

Nothing is allocated but indices, so that a model need not fit into memory. What is counted is
what the engines do: the loss of ``solve`` and its gradient, on each size of batch in the plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from moiety.core.protocols import Descent
from moiety.core.state import Job, count_bytes
from moiety.core.types import Batch, Carry, Params
from moiety.engine.work import answer, describe, gradient

META = "meta"


@dataclass(frozen=True)
class Effort:
    """What a job costs its worker.

    Args:
        steps: local steps.
        flops: of all steps; matrix products and convolutions, a multiply-add as 2.
        step_flops: of the largest step.
        piece_bytes: of its piece.
        down_bytes: of what the worker is sent.
        up_bytes: of what it sends back.
        memory_bytes: of tensors alive in its largest step, at most: piece, gradients, optimiser,
            batch, and what the backward pass needs.
        kept_bytes: of these, what the backward pass needs besides parameters and batch.
    """

    steps: int
    flops: int
    step_flops: int
    piece_bytes: int
    down_bytes: int
    up_bytes: int
    memory_bytes: int
    kept_bytes: int


def shapes(params: Params) -> dict[str, Tensor]:
    """Keep shapes and types of tensors, and no numbers."""
    return {n: torch.empty(t.shape, dtype=t.dtype, device=META) for n, t in params.items()}


def rehearse(solve: Descent, job: Job, size: int, row: Batch) -> Effort:
    """Walk a job on shapes.

    Args:
        solve: what the worker would do.
        job: with a piece of shapes.
        size: rows of the worker.
        row: one of its rows, for the shapes of the columns; [1, ...].

    Raises:
        RuntimeError: where the model looks at numbers (``int(tensor)``, ``nonzero``).
    """
    plan = solve.plan(size, job)
    carry = solve.start(job, {})
    widths = Counter((plan.weights > 0).sum(1).tolist())
    found = {width: step(solve, carry, job.share.role, row, width) for width in widths}
    largest = max(widths)
    update = solve.finish(job, carry, {})
    reply = answer(job, update, describe(job, size, None))
    moving = count_bytes(carry["params"])
    slots = sum(count_bytes(slot) for slot in carry["slots"].values())
    rest = count_bytes(carry["frozen"]) + count_bytes(carry["origin"])
    flops, kept = found[largest]
    return Effort(
        steps=plan.steps,
        flops=sum(found[width][0] * count for width, count in widths.items()),
        step_flops=flops,
        piece_bytes=count_bytes(job.piece),
        down_bytes=job.down_bytes,
        up_bytes=reply.up_bytes,
        memory_bytes=2 * moving + slots + rest + count_bytes(batch_of(row, largest)) + kept,
        kept_bytes=kept,
    )


def batch_of(row: Batch, width: int) -> dict[str, Tensor]:
    """Shape a batch of some rows like one row of it; with weights, and a seed for noise."""
    columns = {
        name: torch.empty((width, *column.shape[1:]), dtype=column.dtype, device=META)
        for name, column in row.items()
    }
    return {**columns, "weight": torch.empty(width, device=META)}


def step(solve: Descent, carry: Carry, role: str, row: Batch, width: int) -> tuple[int, int]:
    """Count the operations of a step and the bytes kept for its backward pass."""
    leaves = {name: t.detach().requires_grad_() for name, t in carry["params"].items()}
    carry = {**carry, "params": leaves}
    batch = {**batch_of(row, width), "seed": torch.zeros((), dtype=torch.long)}
    fixed = {**leaves, **carry["frozen"], **batch}
    kept: dict[int, Tensor] = {}
    known = {storage(tensor) for tensor in fixed.values()}

    def keep(tensor: Tensor) -> Tensor:
        if storage(tensor) not in known:
            kept[storage(tensor)] = tensor  # held, or its place is taken by the next
        return tensor

    with FlopCounterMode(display=False) as counter, saved_tensors_hooks(keep, lambda t: t):
        gradient(solve, carry, batch, role)
    sizes: Mapping[int, int] = {key: t.untyped_storage().nbytes() for key, t in kept.items()}
    return counter.get_total_flops(), sum(sizes.values())


def storage(tensor: Tensor) -> int:
    """Name the memory a tensor lies in."""
    return tensor.untyped_storage()._cdata  # noqa: SLF001  (the one name that views share)
