"""Metrics of ``torchmetrics`` as ours, where their state is sums that add up over rows."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from moiety.core.extras import import_extra
from moiety.core.objective import SHARE, Metric, Objective
from moiety.tasks.metrics import choose_metrics


@dataclass(frozen=True)
class ForeignMetric:
    """A metric of torchmetrics: its state as totals, and its value of them.

    Args:
        metric: the object, which stays as it is.
        log_probabilities: whether answers are such; it is then given probabilities.
        categorical: whether the target is one class a row, and so has another shape than answers.
    """

    metric: Any
    log_probabilities: bool
    categorical: bool

    def add_rows(self, answer: Tensor, y: Tensor) -> Tensor:
        """Give the sums over some rows, all states one after the other, float64."""
        said = answer.exp() if self.log_probabilities else answer
        if said.ndim == 2 and said.shape[1] == 1:
            said = said[:, 0]
        true = y if self.categorical else y.reshape(said.shape)
        own = self.metric.clone().to(said.device)
        own.reset()
        own.update(said, true.long() if self.log_probabilities else true)
        return torch.cat([own.metric_state[name].double().flatten().cpu() for name in self.shapes])

    def compute(self, totals: Tensor) -> float:
        """Give the value of sums over all rows."""
        own, begun = self.metric.clone().cpu(), 0
        own.reset()
        for name, first in self.shapes.items():
            mine = totals[begun : begun + first.numel()].reshape(first.shape).to(first.dtype)
            setattr(own, name, mine)
            begun += first.numel()
        own._update_count = 1  # noqa: SLF001 - else it warns that it saw nothing
        value = own.compute()
        return float(value) if value.numel() == 1 else math.nan

    @property
    def shapes(self) -> Mapping[str, Tensor]:
        """The states as they begin, by name."""
        return self.metric._defaults  # noqa: SLF001 - the library tells it nowhere else


def adopt_metric(source: Any, objective: Objective) -> Metric:
    """Make a metric of one of torchmetrics.

    Args:
        source: it; ``torchmetrics.Accuracy(task="multiclass", num_classes=3)``.
        objective: whose answers it scores.

    Raises:
        ValueError: if its state is no sums over rows, so that workers and chunks cannot be added,
            or it says no direction.
    """
    name = type(source).__name__
    added = import_extra("torchmetrics.utilities.data", f"metric {name}", "torchmetrics")
    sums, firsts = source._reductions, source._defaults  # noqa: SLF001
    odd = [
        state
        for state, first in firsts.items()
        if not isinstance(first, Tensor) or sums[state] is not added.dim_zero_sum or first.any()
    ]
    if odd or not firsts:
        raise ValueError(
            f"metric {name} keeps {odd or 'nothing'}, which is no sum over rows, so that chunks "
            "and ranks cannot be added; choose one that sums (with thresholds=100, where it has "
            "that option), or compute it from predict()"
        )
    if source.higher_is_better is None:
        raise ValueError(
            f"metric {name} does not say whether more is better; choose one that gives one number "
            "with a direction"
        )
    foreign = ForeignMetric(source, objective.log_probabilities, objective.categorical)
    share = getattr(source, "plot_upper_bound", None) == 1.0
    return Metric(
        name=re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower(),
        sums=foreign.add_rows,
        value=foreign.compute,
        unit=SHARE if share else "",
        higher_is_better=bool(source.higher_is_better),
    )


def score_by(objective: Any, chosen: Sequence[Any]) -> Objective:
    """Give an objective other metrics; the first decides.

    Args:
        objective: a record with metrics.
        chosen: names of the task's, metrics of ours, or objects of torchmetrics.

    Raises:
        ValueError: for what is none of these, one that does not add up, or two of one name.
    """
    library: Any = sys.modules.get("torchmetrics")  # nobody has an object of it without it
    made: list[Metric] = []
    for one in chosen:
        if isinstance(one, str):
            made += choose_metrics(objective.name, [one])
        elif isinstance(one, Metric):
            made.append(one)
        elif library is not None and isinstance(one, library.Metric):
            made.append(adopt_metric(one, objective))
        else:
            raise ValueError(
                f"metric {one!r} is none; give names of the task's, moiety.core.objective.Metric, "
                "or objects of torchmetrics"
            )
    names = [metric.name for metric in made]
    if len(set(names)) < len(names):
        raise ValueError(f"metrics {names} have names twice; give each once")
    return replace(objective, metrics=tuple(made)) if made else objective
