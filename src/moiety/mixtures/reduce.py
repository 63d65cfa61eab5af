"""Many fitted mixtures to one.

Letters: S support rows, D columns with the constant, M mixtures, K experts of the result, J = K -
1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic

import numpy as np

from moiety.mixtures import gates
from moiety.mixtures.align import aligned, average, divergence, order_like
from moiety.mixtures.hellinger import squared_hellinger
from moiety.mixtures.logit import Array
from moiety.mixtures.model import E, Mixture, canonical, mapped, reorder, size
from moiety.mixtures.scene import (
    Local,
    Scene,
    Support,
    look,
    narrowed,
    problem_of,
    scene_of,
    thinning,
)
from moiety.mixtures.screen import excessive, middle, screened
from moiety.mixtures.starts import like_one, spread_out
from moiety.mixtures.transport import Carried, carry, thinned

GATES = ("information", "average", "projection", "posterior")
PASSES = 3  # the most times that fits are judged by the result and left out of the next one


@dataclass(frozen=True)
class Recipe:
    """How many experts, the cost, the gate, k-means starts beside the two others, and screening."""

    num_experts: int
    cost: str = "kl"
    gate: str = "information"
    num_starts: int = 3
    screen: bool = True


@dataclass(frozen=True)
class Reduced(Generic[E]):
    """The result, the objective at every step, machines' divergences from it, and who was kept.

    ``misfit`` is 2 * rows * squared Hellinger distance from the result: near half the number of
    parameters where machines have alike rows. ``strain`` is the mean of these distances over that
    from the best placed of the fits: above 1, one fit alone stands nearer to all than the result.
    """

    mixture: Mixture[E]
    trace: tuple[float, ...]
    divergence: Array
    kept: Array
    misfit: Array
    strain: float


def best_carried(
    scene: Scene[E], distance_MM: Array, recipe: Recipe, rng: np.random.Generator
) -> Carried[E]:
    """Carry from several starts on few support rows, and from the best of them on all."""
    problem, size = problem_of(scene), recipe.num_experts
    if problem.experts.coef.shape[1] < size:
        raise ValueError(
            f"the local fits hold {problem.experts.coef.shape[1]} experts in all, fewer than the "
            f"{size} asked for; choose a smaller n_experts"
        )
    starts = [spread_out(problem, size, own) for own in rng.spawn(recipe.num_starts)]
    alike = np.array([m.num_experts == size for m in scene.mixtures])
    if alike.any():
        far = np.where(alike, scene.share @ distance_MM, np.inf)
        pattern = scene.mixtures[int(far.argmin())]
        starts = like_one(problem, scene.mixtures, scene.share, pattern) + starts
    few = thinned(problem, thinning(scene))
    tried = (carry(few, start) for start in starts)
    return carry(problem, min(tried, key=lambda done: done.objective).experts)


def gate_of(scene: Scene, carried: Carried, recipe: Recipe, y_S: Array | None) -> Array:
    """Make the gate that the recipe names, [D, K]."""
    alike = all(m.num_experts == recipe.num_experts for m in scene.mixtures)
    if not alike:
        start = np.zeros((scene.x.shape[1], recipe.num_experts))
        return gates.projected(scene.x, carried.mass, start)
    x_SD, u_S = scene.x, scene.weights
    orders = [order_like(x_SD, u_S, m, carried.experts, scene.cost) for m in scene.mixtures]
    ordered = [reorder(m, order) for m, order in zip(scene.mixtures, orders, strict=True)]
    start = gates.averaged(ordered, scene.share)
    if recipe.gate == "projection":
        return gates.projected(x_SD, carried.mass, start)
    if recipe.gate == "posterior":
        if y_S is None:
            raise ValueError(
                "gate='posterior' needs responses at the support; pass them, or choose "
                "gate='information'"
            )
        return gates.posterior(x_SD, y_S, carried.mass, start, carried.experts)
    if recipe.gate == "average" or recipe.num_experts == 1:
        return start
    known = [
        gates.reordered_information(_information(scene, local), order)
        for local, order in zip(scene.locals, orders, strict=True)
    ]
    return gates.informed(ordered, known, scene.share)


def _information(scene: Scene, local: Local) -> Array:
    if local.information is not None:
        return local.information
    return local.rows * gates.information_at(local.mixture, scene.x, scene.weights)


def reduce_mixtures(
    locals_: Sequence[Local[E]], support: Support, recipe: Recipe, rng: np.random.Generator
) -> Reduced[E]:
    """Reduce local fits to one mixture by transport.

    Args:
        locals_: what the machines sent, in any order; their numbers of experts may differ.
        support: covariates on which experts are compared.
        recipe: the choices; where numbers of experts differ, the gate is the projected one.
        rng: draws the k-means starts.

    Raises:
        ValueError: for an unknown cost or gate, or if no local fit is usable.

    References:
        Chamroukhi and Pham, arXiv:2312.09877, with the exact variance update and other gates.
    """
    if recipe.gate not in GATES:
        raise ValueError(f"gate={recipe.gate!r} is not known; choose from {list(GATES)}")
    scene = scene_of(locals_, support, recipe.cost)
    distance = look(scene)
    finite = np.isfinite(distance).any(1)
    kept = np.asarray(screened(distance, scene.rows) if recipe.screen else finite)
    if not kept.any():
        raise ValueError("no local fit is finite; refit the machines with other starts")
    kept, carried = settled(scene, kept, distance, recipe, rng)
    left = narrowed(scene, kept)
    result = Mixture(gate_of(left, carried, recipe, support.y), carried.experts)
    with np.errstate(all="ignore"):  # fits that were left out may hold anything
        far = [divergence(scene.x, scene.weights, m, result, scene.cost) for m in scene.mixtures]
        misfit = misfits(scene, result)
    strain = strained(left, distance[np.ix_(kept, kept)], misfit[kept])
    plain = canonical(mapped(result, scene.back))
    return Reduced(plain, carried.trace, np.array(far), kept, misfit, strain)


def settled(
    scene: Scene[E], kept: Array, distance_MM: Array, recipe: Recipe, rng: np.random.Generator
) -> tuple[Array, Carried[E]]:
    """Carry, judge the fits by what comes out, leave bad ones out, and carry the rest again.

    They are judged by the result with the average gate, on which each fit has its share of
    influence; in the others a fit that claims to know much can draw the gate, and with it the
    verdict, to itself.
    """
    for _ in range(PASSES):
        left = narrowed(scene, kept)
        carried = best_carried(left, distance_MM[np.ix_(kept, kept)], recipe, rng)
        if not recipe.screen:
            return kept, carried
        gate = gate_of(left, carried, replace(recipe, gate="average"), None)
        judge = Mixture(gate, carried.experts)
        bad = excessive(misfits(left, judge), left.rows, size(judge))
        if not bad.any():
            return kept, carried
        kept = kept.copy()
        kept[kept] = ~bad
    left = narrowed(scene, kept)
    return kept, best_carried(left, distance_MM[np.ix_(kept, kept)], recipe, rng)


def misfits(scene: Scene[E], mixture: Mixture[E]) -> Array:
    """Give 2 * rows * squared Hellinger distance of every fit from a mixture, [M]."""
    step = thinning(scene)
    x_SD, u_S = scene.x[::step], scene.weights[::step] / scene.weights[::step].sum()
    far = [squared_hellinger(x_SD, u_S, one, mixture) for one in scene.mixtures]
    return 2 * scene.rows * np.array(far)


def strained(scene: Scene, distance_MM: Array, misfit_M: Array) -> float:
    """Compare the distances of fits from the result with those from the middle one."""
    beside = misfits(scene, scene.mixtures[middle(distance_MM, scene.share)]).sum()
    return float(misfit_M.sum() / beside) if beside > 0 else 0.0


def middle_mixture(locals_: Sequence[Local[E]], support: Support, cost: str = "kl") -> Mixture[E]:
    """Give the local fit with the least weighted divergence from all."""
    scene = scene_of(locals_, support, cost)
    return locals_[middle(look(scene), scene.share)].mixture


def average_mixture(locals_: Sequence[Local[E]], support: Support, cost: str = "kl") -> Mixture[E]:
    """Average all parameters after matching every fit's experts with the middle fit's."""
    scene = scene_of(locals_, support, cost)
    pattern = scene.mixtures[middle(look(scene), scene.share)]
    ordered = aligned(scene.x, scene.weights, scene.mixtures, pattern.experts, scene.cost)
    return canonical(mapped(average(ordered, scene.share), scene.back))
