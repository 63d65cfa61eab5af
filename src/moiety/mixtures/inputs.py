"""What the server has before it: local fits and support, in the support's standardised units.

Letters: S support rows, D columns with the constant, M mixtures, J = K - 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np

from moiety.mixtures.align import compare_mixtures
from moiety.mixtures.categorical import CategoricalExperts
from moiety.mixtures.cost import CATEGORICAL_COSTS, GAUSSIAN_COSTS, Cost, find_law_costs
from moiety.mixtures.experts import Experts
from moiety.mixtures.linked import LinkedExperts
from moiety.mixtures.logit import Array
from moiety.mixtures.model import (
    E,
    Mixture,
    add_constant,
    centring_matrix,
    gate_proba,
    map_covariates,
    uncentring_matrix,
)
from moiety.mixtures.scale import find_varying
from moiety.mixtures.transport import TransportProblem, join_experts

COMPARED_ROWS = 256  # support rows on which mixtures are compared with each other


@dataclass(frozen=True)
class LocalFit(Generic[E]):
    """What one machine sends: a fitted mixture, its rows, and what it knows of its gate.

    ``information`` is minus the Hessian of the gate's log-likelihood, [J * D, J * D], in the units
    of the mixture; where a machine did not send it, it is evaluated on the support.
    """

    mixture: Mixture[E]
    rows: float
    information: Array | None = None


@dataclass(frozen=True)
class Support:
    """Covariates on which experts are compared [S, d], their weights, and maybe responses.

    ``owner`` [S] is the place of the machine that sent each row, where machines sent them.
    """

    x: Array
    weights: Array
    y: Array | None = None
    owner: Array | None = None


def keep_support(support: Support, kept_M: Array) -> Support:
    """Leave out the rows of machines that were left out; rows that nobody sent stay."""
    if support.owner is None or kept_M.all():
        return support
    held = kept_M[support.owner]
    y = None if support.y is None else support.y[held]
    return Support(support.x[held], support.weights[held], y, support.owner[held])


@dataclass(frozen=True)
class ReductionInputs(Generic[E]):
    """Local fits in the support's standardised units, on support rows with weights of sum 1."""

    x: Array
    weights: Array
    locals: tuple[LocalFit[E], ...]
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


def find_expert_cost(experts: Experts, name: str) -> Cost:
    """Find a cost that fits the experts."""
    known = GAUSSIAN_COSTS
    if isinstance(experts, CategoricalExperts):
        known = CATEGORICAL_COSTS
    if isinstance(experts, LinkedExperts):
        known = find_law_costs(experts.law)
    if name not in known:
        raise ValueError(f"cost={name!r} does not fit these experts; choose from {sorted(known)}")
    return known[name]


def prepare_inputs(
    locals_: Sequence[LocalFit[E]], support: Support, cost: str
) -> ReductionInputs[E]:
    """Express local fits and support in the support's standardised units."""
    u_S = support.weights / support.weights.sum()
    mean = u_S @ support.x
    spread = np.sqrt(u_S @ (support.x - mean) ** 2)
    moving = find_varying(mean, spread)
    spread = np.where(moving, spread, 1.0)
    there, back = centring_matrix(mean, spread), uncentring_matrix(mean, spread)
    back = back * np.concatenate([[True], moving])
    moved = tuple(
        LocalFit(
            map_covariates(one.mixture, there),
            one.rows,
            _convert_information(one.information, back),
        )
        for one in locals_
    )
    x_SD = add_constant(np.where(moving, (support.x - mean) / spread, 0.0))
    return ReductionInputs(
        x_SD, u_S, moved, find_expert_cost(locals_[0].mixture.experts, cost), back
    )


def _convert_information(information: Array | None, back: Array) -> Array | None:
    if information is None or not information.size:
        return information
    lift = np.kron(np.eye(len(information) // len(back)), back)
    return lift.T @ information @ lift


def make_transport_problem(scene: ReductionInputs[E]) -> TransportProblem[E]:
    """Lay the weighted average of all mixtures out as one with the experts of all."""
    mass = [s * gate_proba(m, scene.x) for s, m in zip(scene.share, scene.mixtures, strict=True)]
    whole = join_experts(m.experts for m in scene.mixtures)
    return TransportProblem(
        scene.x, scene.weights[:, None] * np.concatenate(mass, 1), whole, scene.cost
    )


def choose_thinning(scene: ReductionInputs) -> int:
    """Give the stride that leaves a few hundred support rows, and several per column."""
    rows, columns = scene.x.shape
    return max(1, rows // max(COMPARED_ROWS, 8 * columns))


def compare_fits(scene: ReductionInputs) -> Array:
    """Compare all fits with each other by KL on some support rows, [M, M]."""
    kl = find_expert_cost(scene.mixtures[0].experts, "kl")
    step = choose_thinning(scene)
    u_S = scene.weights[::step]
    with np.errstate(all="ignore"):
        return compare_mixtures(scene.x[::step], u_S / u_S.sum(), scene.mixtures, kl)


def leave_machines_out(scene: ReductionInputs[E], kept: Array) -> ReductionInputs[E]:
    """Leave machines out."""
    left = tuple(local for local, keep in zip(scene.locals, kept, strict=True) if keep)
    return ReductionInputs(scene.x, scene.weights, left, scene.cost, scene.back)
