"""What the server has before it: local fits and support, in the support's standardised units.

Letters: S support rows, D columns with the constant, M mixtures, J = K - 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np

from moiety.mixtures.align import apart
from moiety.mixtures.cost import CATEGORICAL_COSTS, GAUSSIAN_COSTS, Cost
from moiety.mixtures.experts import Categorical, Experts
from moiety.mixtures.logit import Array
from moiety.mixtures.model import E, Mixture, centring, design, gate_proba, mapped, uncentring
from moiety.mixtures.scale import varies
from moiety.mixtures.transport import Problem, joined

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
