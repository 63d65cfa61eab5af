"""The batches of a plan, gathered many steps at a time."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from moiety.core.rows import Rows, TableRows
from moiety.core.state import Plan, count_bytes
from moiety.core.types import Batch

ROWS_AT_ONCE = 4096
"""Rows gathered at once: few enough to stay small beside a model, enough to make a gather cheap."""

AT_ONCE_BYTES = 1 << 27
"""Bytes of rows gathered at once for a stack whose workers must be asked one by one."""

NEAR_BYTES = 1 << 20
"""Bytes of rows gathered at once for a stack on one table: they should still be in the cache."""


def read_batches(
    rows: Rows, plan: Plan, *, draws_noise: bool = False
) -> Iterator[tuple[Batch, float]]:
    """Give each step its batch, short batches without their padding, and its rate factor.

    Args:
        rows: the worker's data.
        plan: what was drawn.
        draws_noise: whether the solver may draw noise; a batch then carries its ``seed``, if any.
    """
    counts = (plan.weights > 0).sum(1).tolist()
    rates = plan.lr.tolist()
    gathered = (
        read_in_bulk(rows, plan, counts)
        if isinstance(rows, TableRows)
        else (read_step_by_step(rows, plan, counts))
    )
    for place, batch in enumerate(gathered):
        if draws_noise and place < len(plan.seeds):
            batch["seed"] = plan.seeds[place]
        yield batch, rates[place]


def read_step_by_step(rows: Rows, plan: Plan, counts: Sequence[int]) -> Iterator[dict[str, Tensor]]:
    """Take each step's rows on their own: a batch need not be its rows side by side."""
    for ids, weights, count in zip(plan.rows, plan.weights, counts, strict=True):
        columns = rows.take(ids[:count])
        device = next(iter(columns.values())).device
        yield {**columns, "weight": weights[:count].to(device)}


def read_in_bulk(rows: TableRows, plan: Plan, counts: Sequence[int]) -> Iterator[dict[str, Tensor]]:
    """Take the rows of many steps at once, and cut them into batches."""
    width = plan.rows.shape[1]
    stride = max(1, ROWS_AT_ONCE // width)
    for first in range(0, plan.steps, stride):
        ids = plan.rows[first : first + stride]
        columns = rows.take(ids.flatten())
        device = next(iter(columns.values())).device
        weights = plan.weights[first : first + stride].to(device)
        for place in range(len(ids)):
            count = counts[first + place]
            span = slice(place * width, place * width + count)
            batch = {name: column[span] for name, column in columns.items()}
            batch["weight"] = weights[place, :count]
            yield batch


def read_stacked_batches(stack: Sequence[tuple[Rows, Plan]]) -> Iterator[tuple[Batch, Tensor]]:
    """Give each step of a stack its batches [W, B, ...], padded, and rate factors [W].

    Args:
        stack: rows and plan of every worker, longest plan first. A plan that is over repeats its
            worker's first row with weight zero, as the padding of a short batch does.
    """
    sources, plans = [rows for rows, _ in stack], [plan for _, plan in stack]
    row = sources[0].take(torch.zeros(1, dtype=torch.long))
    device = next(iter(row.values())).device
    width = max(plan.rows.shape[1] for plan in plans)
    step_bytes = count_bytes(row) * width * len(stack)
    stride = max(1, AT_ONCE_BYTES // step_bytes)
    for first in range(0, plans[0].steps, stride):
        ids, weights, rates = stack_plans(plans, width, first, min(first + stride, plans[0].steps))
        weights, rates = weights.to(device), rates.to(device)
        for place, batch in enumerate(gather_rows(sources, ids, max(1, NEAR_BYTES // step_bytes))):
            yield {**batch, "weight": weights[place]}, rates[place]


def stack_plans(
    plans: Sequence[Plan], width: int, first: int, last: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Lay some steps of plans side by side: rows and weights [T, W, B], rate factors [T, W]."""
    shape = last - first, width
    ids = torch.stack([cut_steps(plan.rows, first, shape) for plan in plans], 1)
    weights = torch.stack([cut_steps(plan.weights, first, shape) for plan in plans], 1)
    rates = torch.stack([cut_steps(plan.lr, first, shape[:1]) for plan in plans], 1)
    return ids, weights, rates.float()


def cut_steps(column: Tensor, first: int, shape: tuple[int, ...]) -> Tensor:
    """Cut steps from ``first`` on out of a column of a plan, filled up with zeros to a shape."""
    if first == 0 and column.shape == shape:
        return column
    cut = column[first : first + shape[0]]
    lacks = [full - size for full, size in zip(shape, cut.shape, strict=True)]
    return F.pad(cut, [side for lack in reversed(lacks) for side in (0, lack)])


def gather_rows(sources: Sequence[Rows], ids_TWB: Tensor, near: int) -> Iterator[Batch]:
    """Take rows of each of W workers: columns [W, B, ...] for each of T steps.

    Rows of one table are taken for all workers in one go, ``near`` steps at a time, which spares
    a stack of many workers half its time.
    """
    columns: Batch
    if is_one_table(sources):
        index = [rows.index for rows in sources if isinstance(rows, TableRows)]
        ends_W = torch.tensor([rows.size for rows in sources]).cumsum(0)
        firsts_W = F.pad(ends_W[:-1], (1, 0))
        where_TWB = torch.cat(index)[ids_TWB + firsts_W[:, None]]
        whole = sources[0].table if isinstance(sources[0], TableRows) else {}
        for where in where_TWB.split(near):
            flat = where.flatten()
            columns = {
                name: c.index_select(0, flat.to(c.device)).reshape(*where.shape, *c.shape[1:])
                for name, c in whole.items()
            }
            yield from split_steps(columns)
    else:
        some = ids_TWB.unbind(1)
        taken = [rows.take(ids.flatten()) for rows, ids in zip(sources, some, strict=True)]
        shape = some[0].shape
        columns = {
            name: torch.stack([batch[name].reshape(*shape, *c.shape[1:]) for batch in taken], 1)
            for name, c in taken[0].items()
        }
        yield from split_steps(columns)


def split_steps(columns: Batch) -> Iterator[Batch]:
    """Give the columns of one step after the other."""
    for place in range(len(next(iter(columns.values())))):
        yield {name: column[place] for name, column in columns.items()}


def is_one_table(sources: Sequence[Rows]) -> bool:
    """Say whether the rows of all workers lie in one table in memory."""
    tables = {id(rows.table) if isinstance(rows, TableRows) else None for rows in sources}
    return len(tables) == 1 and None not in tables
