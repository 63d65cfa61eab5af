"""The frozen common expert, and anchors found with it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

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


def require_common(reader: str, public: int) -> None:
    """Refuse what reads a common expert where no row is set apart to train one."""
    if not public:
        raise ValueError(
            f"{reader} needs a common expert, but population.public is 0; set some rows apart"
        )


def train_common(
    net: FeatureModel,
    choice: CommonExpert,
    public: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    seed: int,
    objective: Objective,
) -> tuple[Params, float]:
    """Train on the public rows until the first metric reaches the target on validation rows.

    Where it never does, training ends after ``choice.patience`` epochs without a better one, and
    the best epoch counts.

    Args:
        net: of any architecture; starts at its own values.
        choice: how.
        public: inputs and targets.
        validation: inputs and targets, disjoint from the public ones.
        seed: of the run.
        objective: what is learnt.

    Returns:
        Parameters, and the value of the metric on validation rows that was reached.
    """
    if min(choice.batch, choice.epochs, choice.patience) < 1:
        raise ValueError(f"{choice}: batch, epochs and patience must be at least 1")
    if math.isnan(choice.target_accuracy):
        raise ValueError(
            f"common.target_accuracy={choice.target_accuracy}; choose an accuracy, or 1 to go on"
        )
    sign = 1 if objective.metrics[0].higher_is_better else -1
    best, reached, since = net.params, -math.inf, 0
    for params in train_epochs(net, choice, public, seed, objective):
        score = sign * measure_metric(net, params, validation, objective)
        since = 0 if score > reached else since + 1
        if score > reached:
            best = {name: t.detach().clone() for name, t in params.items()}
            reached = score
        if reached >= sign * choice.target_accuracy or since >= choice.patience:
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
    common: Common, x: Tensor, hands: Mapping[int, Tensor], count: int, seed: int
) -> Mapping[int, int]:
    """Name as anchors the workers nearest to the centres of k-means over their mean embeddings.

    No label is read; what a worker would reveal is its mean embedding.

    Args:
        common: embeds rows.
        x: inputs of the data set.
        hands: worker -> positions of its rows.
        count: number of anchors.
        seed: of the run.
    """
    with torch.no_grad():
        mean = [common.embed({"x": x[rows]}).mean(0) for rows in hands.values()]
    points, workers = torch.stack(mean).cpu().numpy(), list(hands)
    cluster = import_extra("sklearn.cluster", "anchors by k-means")
    state = hash_address(seed, "anchors") % 2**32
    found = cluster.KMeans(count, n_init=10, random_state=state).fit(points)
    anchors: dict[int, int] = {}
    for expert, centre in enumerate(found.cluster_centers_):
        order = ((points - centre) ** 2).sum(1).argsort()
        anchors[next(workers[i] for i in order if workers[i] not in anchors)] = expert
    return anchors
