"""The frozen common expert, and anchors found with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from moiety.core.extras import import_extra
from moiety.core.objective import Objective
from moiety.core.streams import hash_address, stream
from moiety.core.types import Params
from moiety.models.base import FeatureModel
from moiety.models.gated import Common, common_expert
from moiety.ops.optim import SGD
from moiety.recipes.record import CommonExpert
from moiety.solve.plan import shuffle_rows


@dataclass(frozen=True)
class Epoch:
    """Where the training of a common expert stands.

    Args:
        done: epochs trained; 0 before the first.
        most: epochs at most.
        rows: on which it is trained.
        metric: name of the metric that decides.
        best: its best value on validation rows so far; NaN before the first epoch.
        last: whether training ends here.
    """

    done: int
    most: int
    rows: int
    metric: str
    best: float
    last: bool


@dataclass(frozen=True)
class CommonRows:
    """Inputs and targets for training, and others, disjoint from them, for validation."""

    public: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]


EpochWatcher = Callable[[Epoch], None]
"""Sees where the training of a common expert stands; changes nothing."""


def ignore_epoch(_epoch: Epoch) -> None:
    """Tell nobody."""


def require_common(reader: str, public: int) -> None:
    """Refuse what reads a common expert where no row is set apart to train one."""
    if not public:
        raise ValueError(
            f"{reader} needs a common expert, but population.public is 0; set some rows apart"
        )


def train_common(
    net: FeatureModel,
    choice: CommonExpert,
    rows: CommonRows,
    seed: int,
    objective: Objective,
    watch: EpochWatcher = ignore_epoch,
) -> tuple[Params, float]:
    """Train on the public rows until the first metric reaches the target on validation rows.

    Where it never does, training ends after ``choice.patience`` epochs without a better one, and
    the best epoch counts.

    Args:
        net: of any architecture; starts at its own values.
        choice: how.
        rows: to train and to validate on.
        seed: of the run.
        objective: what is learnt.
        watch: is told of every epoch.

    Returns:
        Parameters, and the value of the metric on validation rows that was reached.
    """
    if min(choice.batch, choice.epochs, choice.patience) < 1:
        raise ValueError(f"{choice}: batch, epochs and patience must be at least 1")
    if math.isnan(choice.target_accuracy):
        raise ValueError(
            f"common.target_accuracy={choice.target_accuracy}; choose an accuracy, or 1 to go on"
        )
    metric = objective.metrics[0]
    sign, size = 1 if metric.higher_is_better else -1, len(rows.public[0])
    best, reached, since = net.params, -math.inf, 0
    watch(Epoch(0, choice.epochs, size, metric.name, math.nan, last=False))
    for done, params in enumerate(train_epochs(net, choice, rows.public, seed, objective), 1):
        score = sign * measure_metric(net, params, rows.validation, objective)
        since = 0 if score > reached else since + 1
        if score > reached:
            best = {name: t.detach().clone() for name, t in params.items()}
            reached = score
        enough = reached >= sign * choice.target_accuracy or since >= choice.patience
        last = enough or done == choice.epochs
        watch(Epoch(done, choice.epochs, size, metric.name, sign * reached, last=last))
        if enough:
            break
    return best, sign * reached


def train_epochs(
    net: FeatureModel,
    choice: CommonExpert,
    public: tuple[Tensor, Tensor],
    seed: int,
    objective: Objective,
) -> Iterator[Params]:
    """Train epoch by epoch; the same tensors move on."""
    (x, y), rule = public, SGD(choice.lr, momentum=0.9)
    params = {name: t.clone().requires_grad_() for name, t in net.params.items()}
    names = [name for name in params if name not in net.buffers]
    optimizer_state = {name: rule.start(params[name].detach()) for name in names}
    for epoch in range(choice.epochs):
        rows, weights = shuffle_rows(len(x), choice.batch, 1, stream(seed, "common", epoch))
        for ids, weight in zip(rows.to(x.device), weights.to(x.device), strict=True):
            out, after = net.forward(params, {"x": x[ids]}, {})
            loss = (objective.rows(out.float(), y[ids]) * weight).sum()
            grads = torch.autograd.grad(loss, [params[name] for name in names])
            with torch.no_grad():
                for name, grad in zip(names, grads, strict=True):
                    rule.update_in_place(params[name], grad, optimizer_state[name], 1.0)
            params = {**params, **{name: t.detach() for name, t in after.items()}}
        yield params


def measure_metric(
    net: FeatureModel, params: Params, rows: tuple[Tensor, Tensor], objective: Objective
) -> float:
    """Give the first metric on some rows."""
    metric, totals = objective.metrics[0], []
    with torch.no_grad():
        for x, y in zip(rows[0].split(2048), rows[1].split(2048), strict=True):
            answer = objective.answer(net.logits(params, {"x": x}, {}).float())
            totals.append(metric.sums(*objective.select(answer, y)))
    return metric.value(torch.stack(totals).sum(0))


def freeze_common(net: FeatureModel, params: Params, x: Tensor) -> Common:
    """Freeze the common expert, standardised on its own training rows."""
    return common_expert(net, params, x)


def find_anchors(
    common: Common, x: Tensor, held: Mapping[int, Tensor], count: int, seed: int
) -> Mapping[int, int]:
    """Name as anchors the workers nearest to the centres of k-means over their mean embeddings.

    No label is read; what a worker would reveal is its mean embedding.

    Args:
        common: embeds rows.
        x: inputs of the data set.
        held: worker -> positions of its rows.
        count: number of anchors.
        seed: of the run.
    """
    with torch.no_grad():
        mean = [common.embed({"x": x[rows]}).mean(0) for rows in held.values()]
    points, workers = torch.stack(mean).cpu().numpy(), list(held)
    cluster = import_extra("sklearn.cluster", "anchors by k-means")
    state = hash_address(seed, "anchors") % 2**32
    found = cluster.KMeans(count, n_init=10, random_state=state).fit(points)
    anchors: dict[int, int] = {}
    for expert, centre in enumerate(found.cluster_centers_):
        order = ((points - centre) ** 2).sum(1).argsort()
        anchors[next(workers[i] for i in order if workers[i] not in anchors)] = expert
    return anchors
