"""What is learnt: the loss of a row, what a target is, what an answer is, and how it is scored.

Letters: B rows, N rows, O outputs, K experts at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

SHARE, NATS = "share", "nats"
"""Units of metrics: shares are written in percent; other units are written after the number."""


@dataclass(frozen=True)
class Metric:
    """A number that says how good answers are, of totals that can be added over rows.

    Args:
        name: as it is written in ledgers.
        sums: answers and targets of some rows -> totals, float64 [n].
        value: totals of all rows -> the number; NaN where there was no row.
        unit: ``share``, ``nats``, another unit, or nothing.
        higher_is_better: its direction.

    >>> import torch
    >>> def count_right(answer, y):
    ...     return torch.tensor([(answer.argmax(-1) == y).sum(), len(y)]).double()
    >>> right = Metric("right", count_right, lambda totals: float(totals[0] / totals[1]))
    >>> right.value(right.sums(torch.eye(2), torch.tensor([0, 0])))
    0.5
    """

    name: str
    sums: Callable[[Tensor, Tensor], Tensor]
    value: Callable[[Tensor], float]
    unit: str = ""
    higher_is_better: bool = True


@dataclass(frozen=True)
class MetricEntry:
    """A metric of a run; the first of a run is the one that is reported, compared and kept.

    ``unit`` is ``share`` (shown in percent), ``nats``, another unit, or nothing.
    """

    name: str
    higher_is_better: bool
    unit: str = ""


OF_CLASSES = (
    MetricEntry("accuracy", higher_is_better=True, unit=SHARE),
    MetricEntry("loss", higher_is_better=False, unit=NATS),
)
"""Metrics of classes and of older ledgers."""


class Objective(Protocol):
    """One value that every method, data source, evaluation, report and finished model is handed.

    Outputs of a network are in float32; everything but ``check``, ``fit`` and the metrics is
    differentiable and works under ``vmap``.
    """

    @property
    def name(self) -> str:
        """The kind: ``classes``, ``numbers``, ``labels``, ``tokens``, ``answers`` or ``own``."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the outputs; empty where nobody said them."""
        ...

    @property
    def outputs(self) -> int:
        """How many outputs a network must have; 0 where nobody said."""
        ...

    @property
    def categorical(self) -> bool:
        """Whether the target of a row is exactly one of ``names``, and answers are log p of it."""
        ...

    @property
    def log_probabilities(self) -> bool:
        """Whether answers are log-probabilities: of classes, tokens, or of each label."""
        ...

    @property
    def strata(self) -> tuple[str, ...]:
        """Names of the kinds of rows that targets tell apart; empty where they tell none."""
        ...

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """How answers are scored; the first is the one that is reported, compared and kept."""
        ...

    def fit(self, y: Tensor, /) -> Objective:
        """Learn what an objective must know of the targets of training rows: their scale, say."""
        ...

    def check(self, y: Tensor, /) -> Tensor:
        """Give targets [N, ...] as they must be.

        Raises:
            ValueError: for a wrong dtype, shape or range, with the value and the remedy.
        """
        ...

    def stratify(self, y: Tensor, /) -> Tensor:
        """Say of which kind each row is, int64 [N] along ``strata``; 0 where there are none."""
        ...

    def rows(self, out: Tensor, y: Tensor, /) -> Tensor:
        """Give the loss of each row, [B], of outputs [B, ..., O]."""
        ...

    def mix(self, out: Tensor, log_gate: Tensor, y: Tensor, /) -> Tensor:
        """Give the loss of each row under a mixture, [B].

        It is ``-log sum_k gate_k exp(-loss_k)`` with losses that are negative log densities.

        Args:
            out: of each expert, [K, B, ..., O].
            log_gate: log of the weight of each expert, [B, K].
            y: targets.
        """
        ...

    def answer(self, out: Tensor, /) -> Tensor:
        """Give what a finished model answers, [B, ...]: log-probabilities, or means in units."""
        ...

    def answer_mix(self, out: Tensor, log_gate: Tensor, /) -> Tensor:
        """Give the answer of a mixture, of outputs [K, B, ..., O] and log weights [B, K]."""
        ...

    def decide(self, answer: Tensor, /) -> Tensor:
        """Give what is likeliest of an answer: the number of a class, 0 or 1, a number as it is."""
        ...

    def select(self, answer: Tensor, y: Tensor, /) -> tuple[Tensor, Tensor]:
        """Leave what is scored: answers and targets, of rows or of positions."""
        ...

    def to_json(self) -> Mapping[str, Any]:
        """Say how to build this again, as plain data with the key ``kind``."""
        ...


def list_metrics(objective: Objective) -> list[MetricEntry]:
    """List the metrics of an objective, as a ledger writes them."""
    return [MetricEntry(one.name, one.higher_is_better, one.unit) for one in objective.metrics]


def describe_kind(objective: Objective) -> dict[str, Any]:
    """Say of what kind an objective is, with its names and metrics: what each writes of itself."""
    metrics = [metric.name for metric in objective.metrics]
    return {"kind": objective.name, "names": list(objective.names), "metrics": metrics}
