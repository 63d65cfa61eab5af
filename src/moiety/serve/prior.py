"""Answers corrected for a worker's own mix of classes, of which nobody tells a label.

A model learns with what frequency classes come in training; a worker has its own. EM over the
probabilities of its unlabelled rows finds the worker's shares, and each answer is weighed by them.

Saerens, Latinne and Decaestecker, *Adjusting the Outputs of a Classifier to New a Priori
Probabilities*, Neural Computation 14 (2002). Letters: N rows, B rows, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from moiety.core.axes import Axes, Part
from moiety.core.errors import UnknownNameError
from moiety.core.objective import Objective
from moiety.core.protocols import Kept, Method, Serve
from moiety.core.rows import Rows
from moiety.core.types import Batch, Params
from moiety.ops.chi_square import find_chi_square
from moiety.serve.adapt import Answers, answer_rows
from moiety.tasks.losses import UNSCORED

PRIORS = ("none", "em")

LOWEST = -80.0
"""Log-probabilities below count as this: an answer of no chance at all says nothing finite."""

STEPS, STILL = 500, 1e-6
"""EM ends after so many steps at the latest, or when no share moves by more."""

SPREADS = (1.0, 10.0, 100.0, 1e9)
"""How many rows spread as in training EM may add to a worker's: with the last it moves nothing."""


@dataclass(frozen=True)
class Corrected:
    """Serve one worker, whose shares of classes are known.

    Args:
        inner: how the model is served.
        temperature: log-probabilities are divided by it.
        log_ratio: log of the worker's shares over those in training, [C].
    """

    inner: Serve
    temperature: float
    log_ratio: tuple[float, ...]

    @property
    def objective(self) -> Objective:
        return self.inner.objective

    def config(self) -> dict[str, Any]:
        """Say how to build this again."""
        inner: Any = self.inner
        return {
            "kind": "corrected",
            "inner": inner.config(),
            "temperature": self.temperature,
            "log_ratio": list(self.log_ratio),
        }

    def choose(self, params: Params, rows: Rows, /) -> Part:
        return self.inner.choose(params, rows)

    def scores(self, piece: Params, batch: Batch, kept: Kept, /) -> Tensor:
        log_BC = self.inner.scores(piece, batch, kept) / self.temperature
        return (log_BC + log_BC.new_tensor(self.log_ratio)).log_softmax(-1)

    def routes(self, piece: Params, batch: Batch, kept: Kept, /) -> Tensor | None:
        return self.inner.routes(piece, batch, kept)


@dataclass(frozen=True)
class EstimatedPrior:
    """Serve workers whose shares of classes are estimated from their unlabelled rows.

    A worker of too few rows, or whose rows do not speak for other shares than those in training
    (likelihood ratio, 1 %), is served by the model's own probabilities.

    Args:
        inner: how the model is served; its answers are log-probabilities of classes.
        least_rows: rows that a worker must have.
        uniform: probabilities presume equal shares, as those of a model that was trained with
            logits adjusted to each worker's shares; else the shares of validation rows.
        temperature: log-probabilities are divided by it; ``fit`` finds it.
        source: shares that the probabilities presume, [C]; ``fit`` finds them.
        spread: rows that EM adds, spread as in training; ``fit`` chooses one of ``SPREADS``.
        judges: workers by whom it is chosen where validation rows are nobody's.
    """

    inner: Serve
    least_rows: int = 20
    uniform: bool = False
    temperature: float = 1.0
    source: tuple[float, ...] = ()
    spread: float = 1.0
    judges: Mapping[int, Rows] = field(default_factory=dict, repr=False, compare=False)

    @property
    def objective(self) -> Objective:
        return self.inner.objective

    def config(self) -> dict[str, Any]:
        """Say how to build this again."""
        inner: Any = self.inner
        return {
            "kind": "estimated",
            "inner": inner.config(),
            "least_rows": self.least_rows,
            "uniform": self.uniform,
            "temperature": self.temperature,
            "source": list(self.source),
            "spread": self.spread,
        }

    def choose(self, params: Params, rows: Rows, /) -> Part:
        return self.inner.choose(params, rows)

    def scores(self, piece: Params, batch: Batch, kept: Kept, /) -> Tensor:
        return (self.inner.scores(piece, batch, kept) / self.temperature).log_softmax(-1)

    def routes(self, piece: Params, batch: Batch, kept: Kept, /) -> Tensor | None:
        return self.inner.routes(piece, batch, kept)

    def fit(self, answers: Answers, judged: Answers = (), /) -> EstimatedPrior:
        """Fit temperature, presumed shares and how far shares may move on validation rows."""
        workers = list(answers)
        found = [(log[y != UNSCORED], y[y != UNSCORED]) for log, y in workers]
        log_NC, y_N = torch.cat([log for log, _ in found]), torch.cat([y for _, y in found])
        temperature = fit_temperature(log_NC, y_N)
        count_C = torch.bincount(y_N.cpu(), minlength=log_NC.shape[-1]).double() + 1.0
        source_C = torch.ones_like(count_C) if self.uniform else count_C
        shares = (source_C / source_C.sum()).tolist()
        fitted = replace(self, temperature=temperature, source=tuple(shares))
        if not workers[1:]:  # a sample of everybody says nothing of how workers differ
            workers = list(judged)
        if not workers:
            return fitted
        lost = {s: replace(fitted, spread=s).measure_surprise(workers) for s in SPREADS}
        if len({*lost.values()}) == 1:  # nobody has rows enough to tell
            return fitted
        cautious_first = reversed(SPREADS)
        return replace(fitted, spread=min(cautious_first, key=lost.__getitem__))

    def measure_surprise(self, workers: Sequence[tuple[Tensor, Tensor]]) -> float:
        """Sum up how surprising labels are, once answers are corrected for each worker."""
        total = 0.0
        for log_NC, y_N in workers:
            scaled_NC = scale_log(log_NC, 1 / self.temperature).cpu()
            told_NC = (scaled_NC + self.estimate_ratio(log_NC)).log_softmax(-1)
            right_N = told_NC.gather(-1, y_N.cpu().clamp_min(0)[:, None])[:, 0]
            total -= float(right_N[y_N.cpu() != UNSCORED].sum())
        return total

    def adapt(self, params: Params, axes: Axes, rows: Rows, /) -> Corrected:
        ratio = self.estimate_ratio(answer_rows(self.inner, params, axes, rows))
        return Corrected(self.inner, self.temperature, tuple(ratio.tolist()))

    def estimate_ratio(self, log_NC: Tensor) -> Tensor:
        """Estimate the log of a worker's shares over those presumed, [C]; zeros where unsure."""
        source_C = self.find_source(log_NC.shape[-1])
        none = torch.zeros_like(source_C)
        if len(log_NC) < self.least_rows:
            return none
        log_NC = scale_log(log_NC, 1 / self.temperature).cpu()
        share_C = estimate_shares(log_NC, source_C, self.spread)
        log_ratio_C = (share_C / source_C).log()
        gain = torch.logsumexp(log_NC + log_ratio_C, -1).sum()
        return log_ratio_C if 2 * gain > find_chi_square(len(source_C) - 1) else none

    def find_source(self, classes: int) -> Tensor:
        """Give the shares that probabilities presume, float64 [C]; equal ones before ``fit``."""
        equal = torch.full((classes,), 1 / classes, dtype=torch.float64)
        return torch.tensor(self.source, dtype=torch.float64) if self.source else equal


@dataclass(frozen=True)
class Serving:
    """How finished models, and those that are evaluated, are served; for all methods alike.

    Args:
        prior: ``none``, or ``em``: a worker's shares of classes are estimated from its unlabelled
            rows, and answers weighed by them. Classes only; needs validation rows.
        least_rows: rows that a worker must have for it; with fewer it is served without.
    """

    prior: str = "none"
    least_rows: int = 20

    def check(self, objective: Objective, *, validation: bool) -> None:
        """Refuse a choice that is none, or that a task cannot be served by.

        Args:
            objective: of the task.
            validation: whether there are validation rows.

        Raises:
            ValueError: for a task that is none of several classes, and without validation rows.
        """
        if self.prior not in PRIORS:
            raise UnknownNameError(f"serve.prior={self.prior!r}; choose one of {PRIORS}")
        if self.least_rows < 1:
            raise ValueError(f"serve.least_rows={self.least_rows}; choose at least 1")
        if self.prior == "none":
            if self.least_rows != Serving.least_rows:
                raise ValueError("serve.least_rows is read with serve.prior=em alone; leave it out")
            return
        if not objective.categorical:
            raise ValueError(
                f"serve.prior='em' estimates shares of classes, but the task is {objective.name}; "
                "say none"
            )
        if len(objective.names) == 1:
            raise ValueError(
                f"serve.prior='em' estimates shares of classes, but the only one is "
                f"{objective.names[0]!r}; say none"
            )
        if not validation:
            raise ValueError(
                "serve.prior='em' fits a temperature on validation rows, but there are none; set "
                "some apart (population.validation), or say none"
            )

    def apply(self, method: Method, *, validation: bool, uniform: bool) -> Method:
        """Serve a method so.

        Args:
            method: of any kind.
            validation: whether there are validation rows.
            uniform: whether its probabilities presume equal shares.

        Raises:
            ValueError: as ``check``.
        """
        self.check(method.serve.objective, validation=validation)
        if self.prior == "none":
            return method
        return replace(method, serve=EstimatedPrior(method.serve, self.least_rows, uniform))


def scale_log(log_NC: Tensor, factor: float) -> Tensor:
    """Multiply log-probabilities and normalise them, float64 [N, C]."""
    return (log_NC.double().clamp_min(LOWEST) * factor).log_softmax(-1)


def fit_temperature(log_NC: Tensor, y_N: Tensor) -> float:
    """Find the temperature from 0.05 to 20 at which the labels are least surprising.

    The surprise is convex in the inverse temperature, so its slope is bisected.

    >>> log = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.1, 0.9]]).log()
    >>> round(fit_temperature(log, torch.tensor([0, 0, 1, 1])), 3)  # right 3 times in 4
    2.0
    """
    log_NC = log_NC.double().clamp_min(LOWEST)
    right_N = log_NC.gather(-1, y_N[:, None])[:, 0]
    low, high = 0.05, 20.0
    for _ in range(50):
        middle = (low * high) ** 0.5
        mean_N = ((log_NC * middle).softmax(-1) * log_NC).sum(-1)
        if bool((mean_N - right_N).mean() < 0):
            low = middle
        else:
            high = middle
    return (low * high) ** -0.5


def estimate_shares(log_NC: Tensor, source_C: Tensor, spread: float = 1.0) -> Tensor:
    """Estimate shares of classes by EM, [C], with rows more that are spread as in training.

    Args:
        log_NC: log-probabilities that presume the shares ``source_C``.
        source_C: those.
        spread: how many rows more.

    >>> sure = torch.eye(2)[[0, 0, 0]].mul(20).log_softmax(-1)
    >>> estimate_shares(sure.double(), torch.tensor([0.5, 0.5]).double()).numpy().round(3)
    array([0.875, 0.125])
    """
    share_C, p_NC = source_C, log_NC.exp()
    for _ in range(STEPS):
        ratio_C = share_C / source_C
        held_C = ratio_C * (p_NC.T @ (p_NC @ ratio_C).reciprocal())
        after_C = (held_C + spread * source_C) / (len(p_NC) + spread)
        moved, share_C = (after_C - share_C).abs().max(), after_C
        if moved < STILL:
            break
    return share_C
