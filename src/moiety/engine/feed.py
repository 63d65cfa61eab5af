"""The batches of a plan, gathered many steps at a time."""

from collections.abc import Iterator

import torch

from moiety.core.rows import Rows
from moiety.core.state import Plan
from moiety.core.types import Batch

AT_ONCE = 4096
"""Rows gathered at once: few enough to stay small beside a model, enough to make a gather cheap."""


def feed(rows: Rows, plan: Plan, *, noisy: bool = False) -> Iterator[tuple[Batch, float]]:
    """Give each step its batch, short batches without their padding, and its rate factor.

    Args:
        rows: the worker's data.
        plan: what was drawn.
        noisy: whether the solver draws noise, so that a batch carries its ``seed``.
    """
    width = plan.rows.shape[1]
    stride = max(1, AT_ONCE // width)
    counts = (plan.weights > 0).sum(1).tolist()
    rates = plan.lr.tolist()
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
            if noisy:
                batch["seed"] = plan.seeds[first + place]
            yield batch, rates[first + place]


def pad(rows: Rows, plan: Plan, width: int, first: int, last: int) -> Batch:
    """Gather some steps of a plan, padded: columns [last - first, width, ...].

    A plan that is over before ``last`` repeats its first row with weight zero.
    """
    ids, weights = plan.rows[first:last], plan.weights[first:last]
    more = (0, width - ids.shape[1], 0, last - first - len(ids))
    if any(more):
        ids = torch.nn.functional.pad(ids, more)
        weights = torch.nn.functional.pad(weights, more)
    columns = rows.take(ids.flatten())
    batch = {name: c.reshape(*ids.shape, *c.shape[1:]) for name, c in columns.items()}
    return {**batch, "weight": weights.to(next(iter(columns.values())).device)}
