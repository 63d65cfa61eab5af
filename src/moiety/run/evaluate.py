"""How good the whole is for each worker: served without labels, scored with them.

Letters: B rows, C classes, E indices of the gated axis.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from moiety.core.axes import read_axis_lengths, take_piece
from moiety.core.ledger import Evaluation, Group
from moiety.core.protocols import Method
from moiety.core.rows import Rows, chunk_positions
from moiety.core.state import State
from moiety.core.types import Memory, Params
from moiety.engine.work import use_one_thread
from moiety.solve.sgd import OWN
from moiety.tasks.losses import UNSCORED


@dataclass
class Score:
    """How good the answers for some rows were, added up chunk by chunk.

    Args:
        shape: indices of the gated axis and classes, of the table of who answered what.
    """

    shape: tuple[int, int]
    count: int = 0
    right: int = 0
    loss: float = 0.0
    routes: Tensor | None = None

    def add(self, scores_BC: Tensor, y_B: Tensor, route_B: Tensor | None) -> None:
        """Add the answers to some rows: log-probabilities [B, ..., C], labels [B, ...]."""
        here = y_B != UNSCORED
        y, scores = y_B[here], scores_BC[here]
        self.count += len(y)
        self.right += int((scores.argmax(-1) == y).sum())
        self.loss -= float(scores.gather(-1, y[:, None]).double().sum())
        if route_B is not None:
            self.routes = count_routes(self.routes, route_B, y_B, self.shape)


def score_rows(method: Method, params: Params, rows: Rows, into: Score) -> Score:
    """Serve a worker without labels, then score the answers with them."""
    with torch.no_grad():
        part = method.serve.choose(params, rows)
        piece = take_piece(params, method.model.axes, part)
        for ids in chunk_positions(rows, 2048):
            batch = rows.take(ids)
            told = method.serve.scores(piece, batch, part.axes)
            into.add(told, batch["y"], method.serve.routes(piece, batch, part.axes))
    return into


def evaluate_groups(
    method: Method,
    state: State,
    memory: Mapping[int, Memory],
    groups: Mapping[str, Mapping[int, Rows]],
    classes: int,
) -> Evaluation:
    """Evaluate every worker of every group.

    Args:
        method: serves.
        state: with the whole model, calibrated.
        memory: what workers kept; a worker uses its own parameters where it has some.
        groups: group -> worker -> rows with labels.
        classes: number of classes.
    """
    begun, result = time.perf_counter(), {}
    routes: Tensor | None = None
    sizes = read_axis_lengths(state.params, method.model.axes) if method.gated else {}
    shape = (sizes[method.gated] if method.gated else 0, classes)
    with use_one_thread():
        for name, workers in groups.items():
            found = []
            for worker, rows in workers.items():
                params = {**state.params, **memory.get(worker, {}).get(OWN, {})}
                found.append(score_rows(method, params, rows, Score(shape)))
                mine = found[-1].routes
                if mine is not None and name != "validation":
                    routes = mine if routes is None else routes + mine
            result[name] = summarize_group(workers, found)
    seconds = time.perf_counter() - begun
    return Evaluation(state.round, seconds, result, [] if routes is None else routes.tolist())


def summarize_group(workers: Iterable[int], found: Sequence[Score]) -> Group:
    """Write down how the workers of a group did."""
    return Group(
        workers=list(workers),
        accuracy=[mean_or_nan(one.right, one.count) for one in found],
        rows=[one.count for one in found],
        loss=[mean_or_nan(one.loss, one.count) for one in found],
    )


def mean_or_nan(total: float, count: int) -> float:
    """Divide; NaN where there is nothing."""
    return total / count if count else math.nan


def read_labels(rows: Rows) -> Tensor:
    """Read the labels of all rows."""
    return torch.cat([rows.take(ids)["y"] for ids in chunk_positions(rows, 8192)])


def count_routes(
    before: Tensor | None, route_B: Tensor, y_B: Tensor, shape: tuple[int, int]
) -> Tensor:
    """Add rows to a table of who answered which class, [E, C]."""
    flat = torch.bincount(route_B.cpu() * shape[1] + y_B.cpu(), minlength=shape[0] * shape[1])
    table_EC = flat.reshape(shape)
    return table_EC if before is None else before + table_EC


def average_accuracy(entry: Evaluation, group: str) -> float | None:
    """Average the accuracy over the workers of a group; None where it has none."""
    if group not in entry.groups or not entry.groups[group].accuracy:
        return None
    values = entry.groups[group].accuracy
    return sum(values) / len(values)
