"""What the server does with the machines' answers.

Letters: M machines, K experts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from moiety.estimators.shards import compute_weight_factor
from moiety.estimators.workers import ShardReply
from moiety.mixtures.cost import CATEGORICAL_COSTS, GAUSSIAN_COSTS
from moiety.mixtures.em import Prior, Sums, add_all_sums, compute_penalised_likelihood, make_m_step
from moiety.mixtures.experts import GaussianExperts
from moiety.mixtures.inputs import LocalFit, Support
from moiety.mixtures.logit import Array, log_sum_exp
from moiety.mixtures.model import Mixture, log_density, sort_experts
from moiety.mixtures.reduce import (
    GATES,
    ReductionConfig,
    ReductionResult,
    average_mixtures,
    choose_middle_mixture,
    reduce_mixtures,
)
from moiety.mixtures.scale import (
    StandardScale,
    find_varying,
    restore_units,
    standardise_mixture,
    standardise_pair,
)

AskMachines = Callable[[Mixture, StandardScale], Sequence[Sums]]


@dataclass(frozen=True)
class ExchangeLedger:
    """What was sent: rounds, bytes up and down, bytes of support rows; and seconds.

    The exchange in which machines settle the classes, if one was made, is a round. ``fit_s`` and
    ``fit_cpu_s`` hold the seconds of every local fit, by the clock and of the processor; a busy
    machine stretches only the first. ``refine_s`` is the longest tally of each refining round, and
    what the server does in between.
    """

    rounds: int
    up_bytes: int
    down_bytes: int
    support_bytes: int
    fit_s: tuple[float, ...]
    fit_cpu_s: tuple[float, ...]
    reduction_s: float
    reduction_cpu_s: float
    refine_s: float = 0.0

    @property
    def longest_fit_s(self) -> float:
        """Give the seconds of the longest local fit."""
        return max(self.fit_s)

    @property
    def longest_fit_cpu_s(self) -> float:
        """Give the processor's seconds for the longest local fit."""
        return max(self.fit_cpu_s)

    @property
    def learning_s(self) -> float:
        """Give the longest local fit plus the reduction, as if the machines ran side by side."""
        return self.longest_fit_s + self.reduction_s

    @property
    def learning_cpu_s(self) -> float:
        """Give the longest local fit plus the reduction, in time of the processor."""
        return self.longest_fit_cpu_s + self.reduction_cpu_s


def balance_weights(sent: Sequence[ShardReply]) -> tuple[list[ShardReply], float]:
    """Weigh all machines by one scale, on which weights count at least the rows of all.

    Each machine lifted its own weights for its fit; what it sends is put on the common scale.
    Returned with the factor by which weights as they came are to be multiplied.
    """
    factor = compute_weight_factor(sum(one.count for one in sent), sum(one.weight for one in sent))
    return [one.weighing(factor) for one in sent], factor


def pool_support(sent: Sequence[ShardReply]) -> Support:
    """Pool support rows; each stands for as many rows as its machine has per row sent."""
    x = np.concatenate([one.support[0] for one in sent])
    y = np.concatenate([one.support[1] for one in sent])
    weights = [one.support[2] / one.support[2].sum() * one.local.rows for one in sent]
    return Support(x, np.concatenate(weights), y if all(one.with_y for one in sent) else None)


REDUCTIONS: dict[str, Callable[..., Mixture]] = {
    "middle": choose_middle_mixture,
    "average": average_mixtures,
}


def check_reduction(cost: str, gate: str, reduction: str, *, classifies: bool) -> None:
    """Refuse choices that are not known, before any machine is asked."""
    costs = CATEGORICAL_COSTS if classifies else GAUSSIAN_COSTS
    for name, value, known in (
        ("cost", cost, sorted(costs)),
        ("gate", gate, list(GATES)),
        ("reduction", reduction, ["transport", *sorted(REDUCTIONS)]),
    ):
        if value not in known:
            raise ValueError(f"{name}={value!r} is not known here; choose from {known}")


def reduce_fits(
    name: str,
    locals_: Sequence[LocalFit],
    support: Support,
    recipe: ReductionConfig,
    rng: np.random.Generator,
) -> ReductionResult:
    """Reduce by transport, or by one of the baselines."""
    if name == "transport":
        return reduce_mixtures(locals_, support, recipe, rng)
    sizes = sorted({local.mixture.num_experts for local in locals_})
    if sizes != [recipe.num_experts]:
        raise ValueError(
            f"reduction={name!r} needs local fits with n_experts={recipe.num_experts}, "
            f"but they have {sizes}; choose reduction='transport'"
        )
    mixture = REDUCTIONS[name](locals_, support, recipe.cost)
    count = len(locals_)
    return ReductionResult(
        mixture, (), np.full(count, np.nan), np.ones(count, bool), np.full(count, np.nan), 0.0
    )


def measure_centre(support: Support) -> tuple[Array, Array]:
    """Give the means and spreads of the support's covariates."""
    u_S = support.weights / support.weights.sum()
    mean = u_S @ support.x
    return mean, np.sqrt(u_S @ (support.x - mean) ** 2)


def make_common_scale(mixture: Mixture, support: Support) -> StandardScale:
    """Give units in which all machines can add their sums."""
    mean, spread = measure_centre(support)
    gaussian = isinstance(mixture.experts, GaussianExperts)
    factor = float(np.sqrt(mixture.experts.variances.max())) if gaussian else 1.0
    kept = find_varying(mean, spread)
    return StandardScale(mean[kept], spread[kept], kept, 0.0, factor)


LARGEST_CHANGE = 3.0  # the largest typical change of a log-odds that one round may make


def make_pooled_steps(
    mixture: Mixture, scale: StandardScale, ask: AskMachines, rounds: int, *, prior: Prior, x: Array
) -> Mixture:
    """Make pooled EM steps: in each round the machines send sums and the server moves.

    A move that turns out, in the next round, to have lowered the likelihood is halved. Nobody looks
    after the last one, so no move may change the gate's log-odds at the support ``x`` by more than
    a stride: where gates saturate, their information vanishes and Newton's step goes anywhere.
    """
    x_SD = standardise_pair(scale, x, np.zeros(len(x)))[0]
    current, best = standardise_mixture(mixture, scale), None
    for _ in range(rounds):
        sums = add_all_sums(ask(current, scale))
        value = compute_penalised_likelihood(current, sums, prior)
        pace = 1.0
        if best is not None and value < best[2]:
            current, sums, value = best[0], best[1], best[2]
            pace = 0.5 * best[3]
        best = (current, sums, value, pace)
        whole = make_m_step(current, sums, prior, pace=pace)
        change = np.sqrt(np.mean((x_SD @ (whole.gate - current.gate)) ** 2, 0)).max()
        short = pace * min(1.0, LARGEST_CHANGE / max(change, 1e-300))
        current = whole if short == pace else make_m_step(current, sums, prior, pace=short)
    return sort_experts(restore_units(current, scale))


def count_sums_bytes(sums: Sums) -> int:
    """Count the bytes of a tally, each symmetric matrix once."""
    count, columns = sums["grams"].shape[:2]
    others = sum(np.asarray(v).size for name, v in sums.items() if name != "grams")
    return 8 * (others + count * columns * (columns + 1) // 2)


def unreduced_log_density(locals_: Sequence[LocalFit], x_ND: Array, y: Array) -> Array:
    """Give the log density of the weighted average of all local fits, [N]."""
    rows = np.array([local.rows for local in locals_])
    parts = [log_density(local.mixture, x_ND, y) for local in locals_]
    return log_sum_exp(np.stack(parts, 1) + np.log(rows / rows.sum()))
