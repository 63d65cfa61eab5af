"""How good the whole is for each worker: served without labels, scored with them.

Letters: B rows, C classes, E indices of the gated axis.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from moiety.core.axes import Part, lengths, take
from moiety.core.ledger import Evaluation, Group
from moiety.core.protocols import Method
from moiety.core.rows import Rows, chunks
from moiety.core.state import State
from moiety.core.types import Memory, Params
from moiety.engine.work import one_thread
from moiety.solve.sgd import OWN


@dataclass(frozen=True)
class Answer:
    """What a worker gets for its rows: classes [B], and who answered [B] where a gate routes."""

    classes: Tensor
    scores: Tensor
    routes: Tensor | None
    part: Part


def answer(method: Method, params: Params, rows: Rows) -> Answer:
    """Serve a worker: choose its part, then answer every row."""
    with torch.no_grad():
        part = method.serve.choose(params, rows)
        piece = take(params, method.model.axes, part)
        scores, routes = [], []
        for ids in chunks(rows, 2048):
            batch = rows.take(ids)
            scores.append(method.serve.scores(piece, batch, part.axes))
            route = method.serve.routes(piece, batch, part.axes)
            if route is not None:
                routes.append(route)
    score_BC = torch.cat(scores)
    return Answer(score_BC.argmax(-1), score_BC, torch.cat(routes) if routes else None, part)


def evaluate(
    method: Method,
    state: State,
    memory: Mapping[int, Memory],
    groups: Mapping[str, Mapping[int, Rows]],
    classes: int,
) -> Evaluation:
    """Evaluate every worker of every group.

    Args:
        method: serves.
        state: with the whole model.
        memory: what workers kept; a worker uses its own parameters where it has some.
        groups: group -> worker -> rows with labels.
        classes: number of classes.
    """
    begun, result = time.perf_counter(), {}
    routes: Tensor | None = None
    sizes = lengths(state.params, method.model.axes)
    with one_thread():
        for name, workers in groups.items():
            right, size = [], []
            for worker, rows in workers.items():
                params = {**state.params, **memory.get(worker, {}).get(OWN, {})}
                told = answer(method, params, rows)
                y_B = labels(rows)
                right.append((told.classes == y_B).double().mean().item())
                size.append(rows.size)
                if told.routes is not None and name != "validation":
                    shape = (sizes[method.gated or ""], classes)
                    routes = count(routes, told.routes, y_B, shape)
            result[name] = Group(list(workers), right, size)
    seconds = time.perf_counter() - begun
    return Evaluation(state.round, seconds, result, [] if routes is None else routes.tolist())


def labels(rows: Rows) -> Tensor:
    """Read the labels of all rows."""
    return torch.cat([rows.take(ids)["y"] for ids in chunks(rows, 8192)])


def count(before: Tensor | None, route_B: Tensor, y_B: Tensor, shape: tuple[int, int]) -> Tensor:
    """Add rows to a table of who answered which class, [E, C]."""
    flat = torch.bincount(route_B.cpu() * shape[1] + y_B.cpu(), minlength=shape[0] * shape[1])
    table_EC = flat.reshape(shape)
    return table_EC if before is None else before + table_EC


def mean_accuracy(entry: Evaluation, group: str) -> float | None:
    """Average the accuracy over the workers of a group; None where it has none."""
    if group not in entry.groups or not entry.groups[group].accuracy:
        return None
    values = entry.groups[group].accuracy
    return sum(values) / len(values)
