"""Distributed mixture of experts: everyone fits its own, one exchange, a reduction by transport.

Chamroukhi and Pham, *Distributed Learning of Mixtures of Experts*, arXiv:2312.09877.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Generator

from moiety.core.errors import UnknownNameError
from moiety.core.protocols import Method
from moiety.core.rows import TableRows
from moiety.core.streams import hash_address
from moiety.merge.answers import AddAnswers
from moiety.merge.transport import Transport
from moiety.methods.demo import Demo
from moiety.methods.task import Task
from moiety.mixtures.em import Prior
from moiety.mixtures.fit import Search
from moiety.mixtures.reduce import ReductionConfig
from moiety.mixtures.worker import FitTask
from moiety.models.mixture import MixtureModel, mixture
from moiety.models.mlp import linear
from moiety.serve.choose import Plain
from moiety.server.mixtures import PooledStep, adopt_reduction, keep_mixture
from moiety.solve.em import LocalEM
from moiety.solve.sums import PooledSums
from moiety.split.whole import Whole
from moiety.tasks.numbers import Numbers

SLOPE_LIMIT = 10.0  # of regressions, in spreads of the target per one of a covariate
REDUCED_GATES = ("information", "average", "projection")

CANNOT = {
    "every_round_worker_and_seed_shuffles_afresh": (
        "EM takes all rows at once, so that there is no order to draw; its starts are drawn afresh"
    ),
    "the_merge_is_the_obvious_fold": (
        "experts of two fits have no common order, so that the mean of their coordinates is no "
        "mixture near either; transport reduces individuals instead"
    ),
}


def dmoe(
    task: Task,
    *,
    experts: int = 2,
    starts: int = 6,
    gate: str = "information",
    support: int = 64,
    ridge: float = 1e-4,
    max_iter: int = 500,
    screen: bool = False,
) -> Method:
    """Fit a mixture of experts at every worker, and reduce all of them to one.

    Experts of classes are multinomial logits, those of a number linear regressions with normal
    noise.

    The network and its local training play no part. A second round goes on from the first one's
    result. All finite fits take part in the reduction, unless those far from the others are left
    out.

    Args:
        task: what is to be learnt; ``shape`` and ``classes`` say how large the mixture is.
        experts: how many experts, at every worker and in the result.
        starts: starts of EM at each worker, of which the best counts.
        gate: how the result's gate is made: ``information``, ``average`` or ``projection``.
        support: rows that each worker sends, without labels, for experts to be compared on.
        ridge: penalty per row on coefficients, in standardised units; it keeps separable rows
            finite.
        max_iter: the most EM steps of a fit.
        screen: leave out fits that stand far from the others; where workers differ for good
            reasons, those are left out too.
    """
    check_dmoe(task, experts, starts, gate, support)
    numbers = task.objective if isinstance(task.objective, Numbers) else None
    classes = 0 if numbers else task.classes
    model = mixture(math.prod(task.shape), experts, classes)
    prior = Prior(ridge, limit=SLOPE_LIMIT if numbers else math.inf)
    search = Search(experts, classes, num_starts=starts, tol=1e-6, max_iter=max_iter, prior=prior)
    recipe = ReductionConfig(experts, gate=gate, screen=screen)
    seed = hash_address(hash_address(task.seed, "dmoe"), "transport")
    return Method(
        name="dmoe",
        model=model,
        split=Whole(),
        solve=make_local_em(FitTask(search, support, limited=False), numbers),
        merge=Transport(recipe, partial(np.random.default_rng, seed)),
        serve=Plain(model, task.objective),
    )


def make_local_em(fit: FitTask, numbers: Numbers | None) -> LocalEM:
    """Make the local fit, of numbers in the units in which models answer."""
    if numbers is None:
        return LocalEM(fit)
    return LocalEM(fit, shift=(numbers.shift or (0.0,))[0], scale=(numbers.scale or (1.0,))[0])


def exchange_mixtures(solve: LocalEM, merge: Transport) -> Method:
    """Fit mixtures of which the workers alone know the size, and judge the fits.

    The state's parameters are the reduced mixture, without the columns that are 0 by convention;
    the server remembers who was kept.
    """
    model = MixtureModel({}, {}, solve.form)
    serve = Plain(model)
    return Method("dmoe", model, Whole(), solve, merge, serve, server=adopt_reduction)


def refine_mixture(solve: PooledSums, server: PooledStep) -> Method:
    """Make an EM step of all workers together a round; the state is the pooled mixture."""
    model = MixtureModel({}, {}, solve.form)
    return Method("dmoe", model, Whole(), solve, AddAnswers(), Plain(model), server=server)


def judge_mixture(solve: PooledSums) -> Method:
    """Ask workers for their sums at a mixture, and leave it as it is."""
    model = MixtureModel({}, {}, solve.form)
    return Method("dmoe", model, Whole(), solve, AddAnswers(), Plain(model), server=keep_mixture)


def check_dmoe(task: Task, experts: int, starts: int, gate: str, support: int) -> None:
    """Refuse what does not fit."""
    objective = task.objective
    if not objective.categorical and not isinstance(objective, Numbers):
        raise ValueError(
            f"dmoe fits classes or a number, but the objective is {objective.name}; take another "
            "method"
        )
    if isinstance(objective, Numbers) and (len(objective.names), objective.loss) != (1, "squared"):
        raise ValueError(
            f"dmoe fits one number by normal regressions, but the targets are {objective.names} "
            f"and loss={objective.loss!r}; choose one target and loss='squared', or "
            "moiety.estimators for other families"
        )
    if task.local.adjusts:
        raise ValueError("dmoe fits by EM and reads no local.prior; leave it out")
    if not task.shape or task.classes < 2 - isinstance(objective, Numbers):
        raise ValueError(
            f"dmoe brings its own model and must know {task.shape=} and {task.classes=}; "
            "give Task(shape=..., classes=...) with at least two classes"
        )
    if min(experts, starts, support) < 1:
        raise ValueError(f"{experts=}, {starts=}, {support=}; each must be at least 1")
    if gate not in REDUCED_GATES:
        raise UnknownNameError(f"gate {gate!r}; choose one of {REDUCED_GATES}")


def demo(rng: Generator) -> Demo:
    """Learn what no single logit can: the sign of one input says which other one decides."""
    x = torch.randn(720, 3, generator=rng)
    y = (torch.where(x[:, 0] > 0, x[:, 1], x[:, 2]) > 0).long()
    data = {
        worker: TableRows({"x": x, "y": y}, torch.arange(worker, 720, 6)[: 95 + 5 * worker])
        for worker in range(6)
    }
    task = Task(linear(3, 2, rng), shape=(3,), classes=2)
    return Demo(dmoe(task, starts=2, ridge=1e-3, max_iter=25), data)
