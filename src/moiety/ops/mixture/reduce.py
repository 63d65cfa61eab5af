"""Many fitted mixtures to one.

Letters: S support rows, D columns with the constant, M mixtures, K experts of the result, J = K -
1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np

from moiety.ops.mixture import gates
from moiety.ops.mixture.align import aligned, apart, average, divergence, order_like
from moiety.ops.mixture.cost import CATEGORICAL_COSTS, GAUSSIAN_COSTS, Cost
from moiety.ops.mixture.experts import Categorical, Experts
from moiety.ops.mixture.logit import Array
from moiety.ops.mixture.model import (
    E,
    Mixture,
    canonical,
    centring,
    design,
    gate_proba,
    mapped,
    reorder,
    uncentring,
)
from moiety.ops.mixture.scale import varies
from moiety.ops.mixture.screen import middle, screened
from moiety.ops.mixture.starts import like_one, spread_out
from moiety.ops.mixture.transport import Carried, Problem, carry, joined, thinned

GATES = ("information", "average", "projection", "posterior")
LOOK = 256  # support rows on which mixtures are compared with each other


@dataclass(frozen=True)
class Local(Generic[E]):
    """What one machine sends: a fitted mixture, its rows, and what it knows of its gate.

    ``information`` is minus the Hessian of the gate's log-likelihood, [J * D, J * D], in the units
    of the mixture; where a machine did not send it, it is evaluated on the support.
    """

    mixture: Mixture[E]
    rows: float
    information: Array | None = None


@dataclass(frozen=True)
class Support:
    """Covariates on which experts are compared [S, d], their weights, and maybe responses."""

    x: Array
    weights: Array
    y: Array | None = None


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
    """The result, the objective at every step, machines' divergences from it, and who was kept."""

    mixture: Mixture[E]
    trace: tuple[float, ...]
    divergence: Array
    kept: Array


@dataclass(frozen=True)
class Scene(Generic[E]):
    """Local fits in the support's standardised units, on support rows with weights of sum 1."""

    x: Array
    weights: Array
    locals: tuple[Local[E], ...]
    cost: Cost
    back: Array

    @property
    def mixtures(self) -> list[Mixture[E]]:
        """Give the mixtures."""
        return [local.mixture for local in self.locals]

    @property
    def rows(self) -> Array:
        """Give the rows of each machine."""
        return np.array([local.rows for local in self.locals], float)

    @property
    def share(self) -> Array:
        """Give the part of all rows that each machine has."""
        return self.rows / self.rows.sum()


def cost_named(experts: Experts, name: str) -> Cost:
    """Find a cost that fits the experts."""
    known = CATEGORICAL_COSTS if isinstance(experts, Categorical) else GAUSSIAN_COSTS
    if name not in known:
        raise ValueError(f"cost={name!r} does not fit these experts; choose from {sorted(known)}")
    return known[name]


def scene_of(locals_: Sequence[Local[E]], support: Support, cost: str) -> Scene[E]:
    """Express local fits and support in the support's standardised units."""
    u_S = support.weights / support.weights.sum()
    mean = u_S @ support.x
    spread = np.sqrt(u_S @ (support.x - mean) ** 2)
    moving = varies(mean, spread)
    spread = np.where(moving, spread, 1.0)
    there, back = centring(mean, spread), uncentring(mean, spread)
    back = back * np.concatenate([[True], moving])
    moved = tuple(
        Local(mapped(one.mixture, there), one.rows, _moved(one.information, back))
        for one in locals_
    )
    x_SD = design(np.where(moving, (support.x - mean) / spread, 0.0))
    return Scene(x_SD, u_S, moved, cost_named(locals_[0].mixture.experts, cost), back)


def _moved(information: Array | None, back: Array) -> Array | None:
    if information is None or not information.size:
        return information
    lift = np.kron(np.eye(len(information) // len(back)), back)
    return lift.T @ information @ lift


def problem_of(scene: Scene[E]) -> Problem[E]:
    """Lay the weighted average of all mixtures out as one with the experts of all."""
    mass = [s * gate_proba(m, scene.x) for s, m in zip(scene.share, scene.mixtures, strict=True)]
    whole = joined(m.experts for m in scene.mixtures)
    return Problem(scene.x, scene.weights[:, None] * np.concatenate(mass, 1), whole, scene.cost)


def thinning(scene: Scene) -> int:
    """Give the stride that leaves a few hundred support rows, and several per column."""
    rows, columns = scene.x.shape
    return max(1, rows // max(LOOK, 8 * columns))


def look(scene: Scene) -> Array:
    """Compare all fits with each other by KL on some support rows, [M, M]."""
    kl = cost_named(scene.mixtures[0].experts, "kl")
    step = thinning(scene)
    u_S = scene.weights[::step]
    with np.errstate(all="ignore"):
        return apart(scene.x[::step], u_S / u_S.sum(), scene.mixtures, kl)


def narrowed(scene: Scene[E], kept: Array) -> Scene[E]:
    """Leave machines out."""
    left = tuple(local for local, keep in zip(scene.locals, kept, strict=True) if keep)
    return Scene(scene.x, scene.weights, left, scene.cost, scene.back)


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
    left = narrowed(scene, kept)
    carried = best_carried(left, distance[np.ix_(kept, kept)], recipe, rng)
    gate = gate_of(left, carried, recipe, support.y)
    result = Mixture(gate, carried.experts)
    far = [divergence(scene.x, scene.weights, m, result, scene.cost) for m in scene.mixtures]
    plain = canonical(mapped(result, scene.back))
    return Reduced(plain, carried.trace, np.array(far), kept)


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
