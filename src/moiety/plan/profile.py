"""A round without numbers: jobs walked on tensors that have shapes alone, to learn what they cost.

Nothing is allocated but indices, so that a model need not fit into memory. What is counted is
what the engines do: the loss of ``solve`` and its gradient, on each size of batch in the plan. A
batch that is a subgraph has a size of its own, so the plan's own batches are walked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from moiety.blocks.memory import MemoryMeter
from moiety.core.rows import Rows, chunk_positions, is_rowwise
from moiety.core.solver import Descent, Solve
from moiety.core.state import Job, Plan, count_bytes, count_section_bytes, make_empty_plan
from moiety.core.types import Batch, Carry, Params
from moiety.engine.work import compute_gradient, make_reply, summarize_losses
from moiety.plan.abstract import META, AbstractMode, count_storage_bytes


@dataclass(frozen=True)
class JobCost:
    """What a job costs its worker.

    Args:
        steps: local steps.
        flops: of all steps, and of the query's answer; matrix products and convolutions, a
            multiply-add as 2.
        step_flops: of the largest step.
        piece_bytes: of its piece.
        down_bytes: of what the worker is sent.
        up_bytes: of what it sends back.
        memory_bytes: of tensors alive in its largest step, at most: piece, gradients, optimiser,
            batch and what the backward pass needs, all at once; or what was alive at the fullest
            moment of the walk, where that is more.
        saved_bytes: of these, what the backward pass needs besides parameters and batch.
    """

    steps: int
    flops: int
    step_flops: int
    piece_bytes: int
    down_bytes: int
    up_bytes: int
    memory_bytes: int
    saved_bytes: int


@dataclass(frozen=True)
class QueryCost:
    """What answering the query costs a worker, and the answer's shapes."""

    flops: int
    down_bytes: int
    up_bytes: int
    memory_bytes: int
    answer: Params


@dataclass(frozen=True)
class StepCost:
    """A step: its operations, bytes if all were held at once, of these kept for the way back."""

    batch: Batch
    flops: int
    held: int
    kept: int


def profile_job(solve: Descent, job: Job, rows: Rows, asked: QueryCost | None = None) -> JobCost:
    """Walk a job on shapes.

    Args:
        solve: what the worker would do.
        job: with a piece of shapes.
        rows: of the worker; numbers of measures are not looked at.
        asked: what its query took, to be added.

    Raises:
        RuntimeError: where the model looks at numbers (``int(tensor)``, ``nonzero``).
    """
    plan, role = solve.plan(rows.size, job), job.share.role
    carry = solve.start(job, {})
    found = [
        (profile_step(solve, carry, role, batch), count)
        for batch, count in list_batch_shapes(rows, plan)
    ]
    wide = max((one for one, _ in found), key=lambda one: one.held)
    looked = profile_statistics(solve, carry, job, rows)
    with AbstractMode():
        update = solve.finish(job, plan, carry, looked.sums)
    reply = make_reply(job, update, summarize_losses(job, rows.size, []))
    cost = JobCost(
        steps=plan.steps,
        flops=looked.flops + sum(one.flops * count for one, count in found),
        step_flops=max(one.flops for one, _ in found),
        piece_bytes=count_bytes(job.piece),
        down_bytes=job.down_bytes,
        up_bytes=reply.up_bytes,
        memory_bytes=max(
            looked.memory_bytes, wide.held, measure_peak(solve, carry, role, wide.batch)
        ),
        saved_bytes=wide.kept,
    )
    return cost if asked is None else add_query_cost(cost, asked)


def add_query_cost(cost: JobCost, asked: QueryCost) -> JobCost:
    """Add what the query took; memory is that of the larger of the two."""
    return replace(
        cost,
        flops=cost.flops + asked.flops,
        down_bytes=cost.down_bytes + asked.down_bytes,
        up_bytes=cost.up_bytes + asked.up_bytes,
        memory_bytes=max(cost.memory_bytes, asked.memory_bytes),
    )


def profile_query(solve: Solve, job: Job, rows: Rows) -> QueryCost:
    """Walk the answer to a query: full-pass statistics, or none at all."""
    carry = solve.start(job, {})
    looked = profile_statistics(solve, carry, job, rows)
    with AbstractMode():
        update = solve.finish(job, make_empty_plan(), carry, looked.sums)
    reply = make_reply(job, update, summarize_losses(job, rows.size, []))
    memory = looked.memory_bytes
    return QueryCost(looked.flops, job.down_bytes, reply.up_bytes, memory, reply.answer)


@dataclass(frozen=True)
class StatisticsCost:
    """Full-pass statistics: their shapes, operations, and the most bytes alive."""

    sums: Params
    flops: int = 0
    memory_bytes: int = 0


def profile_statistics(solve: Solve, carry: Carry, job: Job, rows: Rows) -> StatisticsCost:
    """Walk the pass over all rows that a solver asks for, if it does."""
    if not solve.needs_statistics:
        return StatisticsCost({})
    row, flops, most = rows.take(torch.zeros(1, dtype=torch.long)), 0, 0
    statistics: Params = {}
    for width, count in Counter(map(len, chunk_positions(rows, 1024))).items():
        batch = shape_batch(row, width)
        with (
            FlopCounterMode(display=False) as counter,
            MemoryMeter(count_abstract=True) as peak,
            AbstractMode() as walk,
        ):
            count_held(peak, carry["params"], batch)
            with torch.no_grad():
                statistics = solve.statistics(carry, batch, job.share.role)
        flops += count * (counter.get_total_flops() + walk.flops)
        most = max(most, peak.most)
    return StatisticsCost(statistics, flops, most)


def list_batch_shapes(rows: Rows, plan: Plan) -> Iterator[tuple[Batch, int]]:
    """Give the batches of a plan that differ in size, and how many steps have each."""
    widths = (plan.weights > 0).sum(1).tolist()
    if is_rowwise(rows):
        row = rows.take(torch.zeros(1, dtype=torch.long))
        for width, count in Counter(widths).items():
            yield shape_batch(row, width), count
        return
    drawn = zip(plan.rows.tolist(), widths, strict=True)
    for ids, count in Counter(tuple(sorted(ids[:width])) for ids, width in drawn).items():
        columns = rows.take(torch.tensor(ids))
        yield {**columns, "weight": torch.empty(len(ids), device=META)}, count


def shape_batch(row: Batch, width: int) -> dict[str, Tensor]:
    """Shape a batch of some rows like one row of it; with weights."""
    columns = {
        name: torch.empty((width, *column.shape[1:]), dtype=column.dtype, device=META)
        for name, column in row.items()
    }
    return {**columns, "weight": torch.empty(width, device=META)}


def profile_step(solve: Descent, carry: Carry, role: str, batch: Batch) -> StepCost:
    """Count what a step takes."""
    carry, seeded = prepare_step(carry, batch)
    fixed = [*carry["params"].values(), *carry["frozen"].values(), *batch.values()]
    known = {identify_storage(tensor) for tensor in fixed}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        key = identify_storage(tensor)
        if key not in known:
            kept[key] = tensor  # held, or its place is taken by the next
        return tensor

    with (
        FlopCounterMode(display=False) as counter,
        AbstractMode() as walk,
        saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        compute_gradient(solve, carry, seeded, role)
    size = sum(map(count_storage_bytes, kept.values()))
    moving, optimizer_state = (
        2 * count_bytes(carry["params"]),
        count_section_bytes(carry["optimizer_state"]),
    )
    rest = count_section_bytes(select_held(carry)) + count_bytes(batch)
    return StepCost(
        batch, counter.get_total_flops() + walk.flops, moving + optimizer_state + rest + size, size
    )


def select_held(carry: Carry) -> Mapping[str, Params]:
    """Select what a job holds beside its parameters and the optimiser's memory of them."""
    apart = ("params", "optimizer_state", "kept")
    return {name: tensors for name, tensors in carry.items() if name not in apart}


def prepare_step(carry: Carry, batch: Batch) -> tuple[Carry, Batch]:
    """Give parameters that ask for gradients, and a batch with a seed for noise."""
    leaves = {name: torch.empty_like(t).requires_grad_() for name, t in carry["params"].items()}
    return {**carry, "params": leaves}, {**batch, "seed": torch.zeros((), dtype=torch.long)}


def measure_peak(solve: Descent, carry: Carry, role: str, batch: Batch) -> int:
    """Count the bytes alive at the fullest moment of a step, tensor by tensor."""
    carry, seeded = prepare_step(carry, batch)
    with MemoryMeter(count_abstract=True) as peak, AbstractMode():
        count_held(peak, carry["params"], *select_held(carry).values(), batch)
        count_held(peak, *carry["optimizer_state"].values())
        grads, _ = compute_gradient(solve, carry, seeded, role)
        with torch.no_grad():
            solve.move_in_place(carry, grads, 1.0)
    return peak.most


def count_held(peak: MemoryMeter, *groups: Params) -> None:
    """Count what is there before a step."""
    for group in groups:
        for tensor in group.values():
            peak.count_tensor(tensor)


def identify_storage(tensor: Tensor) -> int:
    """Name the memory a tensor lies in; a sparse one's values."""
    dense = tensor._values() if tensor.is_sparse else tensor  # noqa: SLF001
    return dense.untyped_storage()._cdata  # noqa: SLF001  (the one name that views share)
