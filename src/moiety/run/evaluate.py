"""How good the whole is for each worker: served without labels, scored with them.

Letters: B rows, E indices of the gated axis, C strata of targets (classes).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from moiety.core.axes import read_axis_lengths, take_piece
from moiety.core.ledger import Evaluation, Group
from moiety.core.objective import Metric, Objective
from moiety.core.protocols import Method
from moiety.core.rows import Rows, chunk_positions, fit_chunk
from moiety.core.state import State
from moiety.core.types import Memory, Params
from moiety.engine.work import use_one_thread
from moiety.serve.adapt import AdaptiveServe, adapt_serve, answer_rows
from moiety.solve.sgd import OWN


@dataclass
class Score:
    """How good the answers for some rows were, added up chunk by chunk.

    Args:
        objective: says how answers are scored.
        experts: indices of the gated axis, of the table of who answered what.
    """

    objective: Objective
    experts: int = 0
    count: int = 0
    totals: dict[str, Tensor] = field(default_factory=dict)
    routes: Tensor | None = None

    def add(self, answer: Tensor, y_B: Tensor, route_B: Tensor | None) -> None:
        """Add the answers to some rows, [B, ...], with their targets, [B, ...]."""
        if route_B is not None:
            shape = self.experts, max(1, len(self.objective.strata))
            self.routes = count_routes(self.routes, route_B, self.objective.stratify(y_B), shape)
        answer, y = self.objective.select(answer, y_B)
        self.count += len(y)
        for metric in self.objective.metrics:
            sums = metric.sums(answer, y)
            before = self.totals.get(metric.name)
            self.totals[metric.name] = sums if before is None else before + sums

    def value(self, metric: Metric) -> float:
        """Give the value of a metric; NaN where nothing was scored."""
        return metric.value(self.totals[metric.name]) if self.count else math.nan


def score_rows(method: Method, params: Params, rows: Rows, into: Score) -> Score:
    """Serve a worker without labels, then score the answers with them."""
    with torch.no_grad():
        serve = adapt_serve(method.serve, params, method.model.axes, rows)
        part = serve.choose(params, rows)
        piece = take_piece(params, method.model.axes, part)
        for ids in chunk_positions(rows, choose_chunk(rows, into.objective)):
            batch = rows.take(ids)
            told = serve.scores(piece, batch, part.axes)
            into.add(told, batch["y"], serve.routes(piece, batch, part.axes))
    return into


def choose_chunk(rows: Rows, objective: Objective) -> int:
    """Choose how many rows are answered at a time: fewer where a row has many targets."""
    if not rows.size:
        return 1
    targets = rows.take(torch.zeros(1, dtype=torch.int64))["y"].numel()
    return fit_chunk(2048, targets * objective.outputs)


def fit_serve(
    method: Method,
    params: Params,
    memory: Mapping[int, Memory],
    groups: Mapping[str, Mapping[int, Rows]],
) -> Method:
    """Fit how a method is served on the validation rows, where it is fitted on anything.

    Args:
        method: whose way to serve.
        params: of the whole, calibrated.
        memory: what workers kept; a worker uses its own parameters where it has some.
        groups: group -> worker -> rows with labels; ``validation`` is read.
    """
    known, serve = groups.get("validation", {}), method.serve
    if not known or not isinstance(serve, AdaptiveServe):
        return method
    answers, judged = (
        [answer_labelled(method, params, memory, w, rows) for w, rows in workers.items()]
        for workers in (known, serve.judges)
    )
    return replace(method, serve=serve.fit(answers, judged))


def answer_labelled(
    method: Method, params: Params, memory: Mapping[int, Memory], worker: int, rows: Rows
) -> tuple[Tensor, Tensor]:
    """Answer a worker's rows, [N, ...], and give their targets, [N]."""
    mine = {**params, **get_own(memory, worker)}
    return answer_rows(method.serve, mine, method.model.axes, rows), read_labels(rows)


def get_own(memory: Mapping[int, Memory], worker: int) -> Params:
    """Give a worker's own parameters; none where it has none."""
    return memory.get(worker, {}).get(OWN, {})


def evaluate_groups(
    method: Method,
    state: State,
    memory: Mapping[int, Memory],
    groups: Mapping[str, Mapping[int, Rows]],
) -> Evaluation:
    """Evaluate every worker of every group.

    Args:
        method: serves; its objective says how answers are scored.
        state: with the whole model, calibrated.
        memory: what workers kept; a worker uses its own parameters where it has some.
        groups: group -> worker -> rows with labels.
    """
    begun, result = time.perf_counter(), {}
    objective = method.serve.objective
    routes: Tensor | None = None
    sizes = read_axis_lengths(state.params, method.model.axes) if method.gated else {}
    experts = sizes[method.gated] if method.gated else 0
    with use_one_thread():
        method = fit_serve(method, state.params, memory, groups)
        for name, workers in groups.items():
            found = []
            for worker, rows in workers.items():
                params = {**state.params, **get_own(memory, worker)}
                found.append(score_rows(method, params, rows, Score(objective, experts)))
                mine = found[-1].routes
                if mine is not None and name != "validation":
                    routes = mine if routes is None else routes + mine
            result[name] = summarize_group(workers, found, objective)
    seconds = time.perf_counter() - begun
    return Evaluation(state.round, seconds, result, [] if routes is None else routes.tolist())


def summarize_group(workers: Iterable[int], found: Sequence[Score], objective: Objective) -> Group:
    """Write down how the workers of a group did."""
    return Group(
        workers=list(workers),
        rows=[one.count for one in found],
        metrics={metric.name: [one.value(metric) for one in found] for metric in objective.metrics},
    )


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


def average_metric(entry: Evaluation, group: str, name: str) -> float | None:
    """Average a metric over the workers of a group; None where it has none."""
    values = entry.groups[group].metrics.get(name) if group in entry.groups else None
    return sum(values) / len(values) if values else None


def rate_evaluation(entry: Evaluation, metric: Metric) -> float | None:
    """Say how good a model is on the validation rows, more is better; None where there are none."""
    value = average_metric(entry, "validation", metric.name)
    return value if value is None or metric.higher_is_better else -value
