"""What the server does with the machines' answers.

Letters: M machines, K experts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from moiety.estimators.shards import lift
from moiety.estimators.workers import Sent
from moiety.mixtures.cost import CATEGORICAL_COSTS, GAUSSIAN_COSTS
from moiety.mixtures.em import Prior, Sums, advance, objective, total
from moiety.mixtures.experts import Gaussian
from moiety.mixtures.logit import Array, log_sum
from moiety.mixtures.model import Mixture, canonical, log_density
from moiety.mixtures.reduce import (
    GATES,
    Recipe,
    Reduced,
    average_mixture,
    middle_mixture,
    reduce_mixtures,
)
from moiety.mixtures.scale import Scale, rescaled, scaled, unscaled, varies
from moiety.mixtures.scene import Local, Support

Ask = Callable[[Mixture, Scale], Sequence[Sums]]


@dataclass(frozen=True)
class Ledger:
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


def balanced(sent: Sequence[Sent]) -> tuple[list[Sent], float]:
    """Weigh all machines by one scale, on which weights count at least the rows of all.

    Each machine lifted its own weights for its fit; what it sends is put on the common scale.
    Returned with the factor by which weights as they came are to be multiplied.
    """
    factor = lift(sum(one.count for one in sent), sum(one.weight for one in sent))
    return [one.weighing(factor) for one in sent], factor


def support_of(sent: Sequence[Sent]) -> Support:
    """Pool support rows; each stands for as many rows as its machine has per row sent."""
    x = np.concatenate([one.support[0] for one in sent])
    y = np.concatenate([one.support[1] for one in sent])
    weights = [one.support[2] / one.support[2].sum() * one.local.rows for one in sent]
    return Support(x, np.concatenate(weights), y if all(one.with_y for one in sent) else None)


REDUCTIONS: dict[str, Callable[..., Mixture]] = {
    "middle": middle_mixture,
    "average": average_mixture,
}


def check_recipe(cost: str, gate: str, reduction: str, *, classifies: bool) -> None:
    """Refuse choices that are not known, before any machine is asked."""
    costs = CATEGORICAL_COSTS if classifies else GAUSSIAN_COSTS
    for name, value, known in (
        ("cost", cost, sorted(costs)),
        ("gate", gate, list(GATES)),
        ("reduction", reduction, ["transport", *sorted(REDUCTIONS)]),
    ):
        if value not in known:
            raise ValueError(f"{name}={value!r} is not known here; choose from {known}")


def reduced(
    name: str, locals_: Sequence[Local], support: Support, recipe: Recipe, rng: np.random.Generator
) -> Reduced:
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
    return Reduced(
        mixture, (), np.full(count, np.nan), np.ones(count, bool), np.full(count, np.nan), 0.0
    )


def centre_of(support: Support) -> tuple[Array, Array]:
    """Give the means and spreads of the support's covariates."""
    u_S = support.weights / support.weights.sum()
    mean = u_S @ support.x
    return mean, np.sqrt(u_S @ (support.x - mean) ** 2)


def common_scale(mixture: Mixture, support: Support) -> Scale:
    """Give units in which all machines can add their sums."""
    mean, spread = centre_of(support)
    gaussian = isinstance(mixture.experts, Gaussian)
    factor = float(np.sqrt(mixture.experts.variances.max())) if gaussian else 1.0
    kept = varies(mean, spread)
    return Scale(mean[kept], spread[kept], kept, 0.0, factor)


STRIDE = 3.0  # the largest typical change of a log-odds that one round may make


def refine(
    mixture: Mixture, scale: Scale, ask: Ask, rounds: int, *, prior: Prior, x: Array
) -> Mixture:
    """Make pooled EM steps: in each round the machines send sums and the server moves.

    A move that turns out, in the next round, to have lowered the likelihood is halved. Nobody looks
    after the last one, so no move may change the gate's log-odds at the support ``x`` by more than
    a stride: where gates saturate, their information vanishes and Newton's step goes anywhere.
    """
    x_SD = scaled(scale, x, np.zeros(len(x)))[0]
    current, best = rescaled(mixture, scale), None
    for _ in range(rounds):
        sums = total(ask(current, scale))
        value = objective(current, sums, prior)
        pace = 1.0
        if best is not None and value < best[2]:
            current, sums, value = best[0], best[1], best[2]
            pace = 0.5 * best[3]
        best = (current, sums, value, pace)
        whole = advance(current, sums, prior, pace=pace)
        change = np.sqrt(np.mean((x_SD @ (whole.gate - current.gate)) ** 2, 0)).max()
        short = pace * min(1.0, STRIDE / max(change, 1e-300))
        current = whole if short == pace else advance(current, sums, prior, pace=short)
    return canonical(unscaled(current, scale))


def sums_bytes(sums: Sums) -> int:
    """Count the bytes of a tally, each symmetric matrix once."""
    count, columns = sums["grams"].shape[:2]
    others = sum(np.asarray(v).size for name, v in sums.items() if name != "grams")
    return 8 * (others + count * columns * (columns + 1) // 2)


def unreduced_log_density(locals_: Sequence[Local], x_ND: Array, y: Array) -> Array:
    """Give the log density of the weighted average of all local fits, [N]."""
    rows = np.array([local.rows for local in locals_])
    parts = [log_density(local.mixture, x_ND, y) for local in locals_]
    return log_sum(np.stack(parts, 1) + np.log(rows / rows.sum()))
