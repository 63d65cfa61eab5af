"""Metrics, by name; each is made of totals that can be added over rows.

Letters: N rows, C classes, K numbers, L labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from moiety.core.errors import UnknownNameError
from moiety.core.objective import NATS, SHARE, Metric


def divide_totals(totals: Tensor) -> float:
    """Divide the first of two totals by the second; NaN where there is nothing."""
    total, count = totals.tolist()
    return total / count if count else math.nan


def make_totals(*values: Tensor | int) -> Tensor:
    """Put totals into one tensor, float64 [n]."""
    return torch.stack([torch.as_tensor(value).double().cpu() for value in values])


def count_right(log_NC: Tensor, y_N: Tensor) -> Tensor:
    """Count the rows whose likeliest class is theirs, and all."""
    return make_totals((log_NC.argmax(-1) == y_N).sum(), len(y_N))


def add_surprise(log_NC: Tensor, y_N: Tensor) -> Tensor:
    """Add -log p of the classes that rows have, and count rows."""
    return make_totals(-log_NC.gather(-1, y_N[:, None]).double().sum(), len(y_N))


def count_right_by_class(log_NC: Tensor, y_N: Tensor) -> Tensor:
    """Count for each class the rows that were found, then all of it, [2 C]."""
    size = log_NC.shape[-1]
    right = torch.bincount(y_N[log_NC.argmax(-1) == y_N], minlength=size)
    return torch.cat([right, torch.bincount(y_N, minlength=size)]).double().cpu()


def average_classes(totals: Tensor) -> float:
    """Average the share found over the classes that there are."""
    right, count = totals.chunk(2)
    there = count > 0
    return float((right[there] / count[there]).mean()) if there.any() else math.nan


BINS = 15
"""Bins of how sure answers are, of equal width, in a calibration error."""


def count_sure(log_NC: Tensor, y_N: Tensor) -> Tensor:
    """Add up rows, right rows and probabilities of the likeliest class, by bin of it, [3 BINS]."""
    sure_N, best_N = log_NC.double().exp().max(-1)
    bin_N = (sure_N * BINS).long().clamp(0, BINS - 1)
    each = torch.ones_like(sure_N), (best_N == y_N).double(), sure_N
    sums = [torch.bincount(bin_N, weights=one, minlength=BINS) for one in each]
    return torch.cat(sums).cpu()


def average_gaps(totals: Tensor) -> float:
    """Average over rows how far the share that is right lies from what was said, bin by bin."""
    count, right, sure = totals.view(3, BINS)
    return float((right - sure).abs().sum() / count.sum()) if count.sum() else math.nan


ACCURACY = Metric("accuracy", count_right, divide_totals, SHARE)
LOSS = Metric("loss", higher_is_better=False, sums=add_surprise, value=divide_totals, unit=NATS)
PERPLEXITY = Metric(
    "perplexity",
    higher_is_better=False,
    sums=add_surprise,
    value=lambda t: math.exp(divide_totals(t)),
)
BALANCED_ACCURACY = Metric("balanced_accuracy", count_right_by_class, average_classes, SHARE)
CALIBRATION_ERROR = Metric(
    "calibration_error", count_sure, average_gaps, SHARE, higher_is_better=False
)


def add_errors(mean_NK: Tensor, y_NK: Tensor) -> Tensor:
    """Add what squared and absolute errors, targets and their squares come to, [K, 5] flat."""
    y = y_NK.double().reshape(mean_NK.shape)
    off = mean_NK.double() - y
    count = torch.full_like(y, 1.0)
    each = torch.stack([off.square(), off.abs(), y, y.square(), count], -1)
    return each.sum(0).flatten().cpu()


def root_mean_square(totals: Tensor) -> float:
    """Give the root of the mean squared error over all rows and numbers."""
    sums = totals.view(-1, 5)
    return divide_totals(torch.stack([sums[:, 0].sum(), sums[:, 4].sum()])) ** 0.5


def mean_absolute(totals: Tensor) -> float:
    """Give the mean absolute error over all rows and numbers."""
    sums = totals.view(-1, 5)
    return divide_totals(torch.stack([sums[:, 1].sum(), sums[:, 4].sum()]))


def explained_share(totals: Tensor) -> float:
    """Give the share of the variance of targets that is explained, averaged over numbers.

    A number that does not vary among the rows is left out; NaN where none varies.
    """
    squared, _, y, square, count = totals.view(-1, 5).T
    spread = square - y.square() / count.clamp_min(1)
    there = spread > 1e-12 * square
    return float((1 - squared[there] / spread[there]).mean()) if there.any() else math.nan


RMSE = Metric("rmse", higher_is_better=False, sums=add_errors, value=root_mean_square)
MAE = Metric("mae", higher_is_better=False, sums=add_errors, value=mean_absolute)
R2 = Metric("r2", add_errors, explained_share)


def count_labels_right(log_NL: Tensor, y_NL: Tensor) -> Tensor:
    """Count true and false positives, false negatives, exact rows, rows, right labels, labels."""
    said, true = log_NL.exp() > 0.5, y_NL > 0.5
    same = said == true
    found = (said & true).sum(), (said & ~true).sum(), (~said & true).sum()
    return make_totals(*found, same.all(-1).sum(), len(y_NL), same.sum(), same.numel())


def micro_f1(totals: Tensor) -> float:
    """Give F1 of all labels of all rows taken together; 1 where there is nothing to find."""
    hit, wrong, missed = totals[:3].tolist()
    if not totals[4]:
        return math.nan
    return 2 * hit / (2 * hit + wrong + missed) if hit + wrong + missed else 1.0


MICRO_F1 = Metric("micro_f1", count_labels_right, micro_f1, SHARE)
EXACT = Metric("exact", count_labels_right, lambda t: divide_totals(t[3:5]), SHARE)
LABEL_ACCURACY = Metric(
    "label_accuracy", count_labels_right, lambda t: divide_totals(t[5:7]), SHARE
)

BY_TASK: Mapping[str, tuple[Metric, ...]] = {
    "classes": (ACCURACY, LOSS, BALANCED_ACCURACY, CALIBRATION_ERROR),
    "tokens": (PERPLEXITY, LOSS, ACCURACY),
    "answers": (PERPLEXITY, LOSS, ACCURACY),
    "numbers": (RMSE, MAE, R2),
    "labels": (MICRO_F1, EXACT, LABEL_ACCURACY),
}
"""Task -> the metrics that it has by name."""


def list_metric_names(task: str) -> tuple[str, ...]:
    """List the metrics of a task by their names."""
    return tuple(metric.name for metric in BY_TASK.get(task, ()))


def choose_metrics(task: str, names: Sequence[str]) -> tuple[Metric, ...]:
    """Choose the metrics of a task by their names, in this order; the first one decides.

    Raises:
        UnknownNameError: for a name that the task does not have.
    """
    known = {metric.name: metric for metric in BY_TASK.get(task, ())}
    for name in names:
        if name not in known:
            raise UnknownNameError(f"metric {name!r} of {task}; choose among {tuple(known)}")
    return tuple(known[name] for name in names)
