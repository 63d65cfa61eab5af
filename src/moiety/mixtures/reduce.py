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
from moiety.mixtures.align import (
    match_experts,
    measure_divergence,
)
from moiety.mixtures.baselines import REDUCTIONS
from moiety.mixtures.freedom import ALL_FREE, Freedom, cut_information
from moiety.mixtures.hellinger import squared_hellinger
from moiety.mixtures.inputs import (
    LocalFit,
    ReductionInputs,
    Support,
    choose_thinning,
    compare_fits,
    keep_support,
    leave_machines_out,
    make_transport_problem,
    prepare_inputs,
)
from moiety.mixtures.logit import Array
from moiety.mixtures.model import (
    E,
    Mixture,
    count_mixture_parameters,
    map_covariates,
    reorder_experts,
    sort_experts,
)
from moiety.mixtures.restrict import restrict_cost, widen_gate
from moiety.mixtures.screen import find_excessive_fits, find_middle, screen_fits
from moiety.mixtures.transport import TransportResult, thin_support, transport_experts
from moiety.mixtures.transport_starts import choose_spread_experts, start_like_mixture

GATES = ("information", "average", "projection", "posterior")
SCREENING_PASSES = (
    3  # the most times that fits are judged by the result and left out of the next one
)


@dataclass(frozen=True)
class ReductionConfig:
    """How many experts, the cost, the gate, k-means starts beside the two others, and screening.

    ``reduction`` is ``"transport"`` or one of the baselines, ``"middle"`` and ``"average"``;
    ``free`` says which columns gate and experts use, as all local fits did.
    """

    num_experts: int
    cost: str = "kl"
    gate: str = "information"
    num_starts: int = 3
    screen: bool = True
    reduction: str = "transport"
    free: Freedom = ALL_FREE


@dataclass(frozen=True)
class ReductionResult(Generic[E]):
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


def transport_from_starts(
    scene: ReductionInputs[E], distance_MM: Array, recipe: ReductionConfig, rng: np.random.Generator
) -> TransportResult[E]:
    """Carry from several starts on few support rows, and from the best of them on all."""
    problem, size = make_transport_problem(scene), recipe.num_experts
    cost = restrict_cost(problem.cost, recipe.free, scene.x.shape[1])
    problem = replace(problem, cost=cost)
    if problem.experts.coef.shape[1] < size:
        raise ValueError(
            f"the local fits hold {problem.experts.coef.shape[1]} experts in all, fewer than the "
            f"{size} asked for; choose a smaller n_experts"
        )
    starts = [choose_spread_experts(problem, size, own) for own in rng.spawn(recipe.num_starts)]
    alike = np.array([m.num_experts == size for m in scene.mixtures])
    if alike.any():
        far = np.where(alike, scene.share @ distance_MM, np.inf)
        pattern = scene.mixtures[int(far.argmin())]
        starts = start_like_mixture(problem, scene.mixtures, scene.share, pattern) + starts
    few = thin_support(problem, choose_thinning(scene))
    tried = (transport_experts(few, start) for start in starts)
    return transport_experts(problem, min(tried, key=lambda done: done.objective).experts)


def make_reduced_gate(
    scene: ReductionInputs, carried: TransportResult, recipe: ReductionConfig, y_S: Array | None
) -> Array:
    """Make the gate that the recipe names, [D, K], in the columns that it uses."""
    rows = recipe.free.find_gate_rows(scene.x.shape[1])
    gate = _make_gate_of_columns(scene, carried, recipe, y_S, rows)
    return widen_gate(gate, rows, scene.x.shape[1])


def _make_gate_of_columns(
    scene: ReductionInputs,
    carried: TransportResult,
    recipe: ReductionConfig,
    y_S: Array | None,
    rows: Array,
) -> Array:
    alike = all(m.num_experts == recipe.num_experts for m in scene.mixtures)
    if not alike:
        start = np.zeros((len(rows), recipe.num_experts))
        return gates.project_gate(scene.x[:, rows], carried.mass, start)
    x_SD, u_S = scene.x, scene.weights
    orders = [match_experts(x_SD, u_S, m, carried.experts, scene.cost) for m in scene.mixtures]
    ordered = [reorder_experts(m, order) for m, order in zip(scene.mixtures, orders, strict=True)]
    ordered = [replace(m, gate=m.gate[rows]) for m in ordered]
    start = gates.average_gates(ordered, scene.share)
    if recipe.gate == "projection":
        return gates.project_gate(x_SD[:, rows], carried.mass, start)
    if recipe.gate == "posterior":
        if y_S is None:
            raise ValueError(
                "gate='posterior' needs responses at the support; pass them, or choose "
                "gate='information'"
            )
        return gates.fit_posterior_gate(x_SD, y_S, carried.mass, start, carried.experts)
    if recipe.gate == "average" or recipe.num_experts == 1:
        return start
    known = [
        gates.reorder_information(_find_information(scene, local, rows), order)
        for local, order in zip(scene.locals, orders, strict=True)
    ]
    return gates.weigh_gates(ordered, known, scene.share)


def _find_information(scene: ReductionInputs, local: LocalFit, rows: Array) -> Array:
    """Give what a fit knows of its gate in the columns that gates use."""
    found = local.information
    if found is None:
        own = gates.evaluate_gate_information(local.mixture, scene.x, scene.weights)
        found = local.rows * own
    if len(rows) == scene.x.shape[1] or not found.size:
        return found
    return cut_information(found, rows, local.mixture.num_experts - 1)


def reduce_mixtures(
    locals_: Sequence[LocalFit[E]],
    support: Support,
    recipe: ReductionConfig,
    rng: np.random.Generator,
) -> ReductionResult[E]:
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
    scene = prepare_inputs(locals_, support, recipe.cost)
    kept = find_usable(scene, recipe)
    if not kept.any():
        raise ValueError(
            "no two local fits can be compared: they are not finite, or so far apart that their "
            "divergence is not; look for wild or repeated responses, or fit fewer experts"
        )
    kept, carried = transport_and_screen(locals_, support, kept, recipe, rng)
    held = keep_support(support, kept)
    scene = prepare_inputs(locals_, held, recipe.cost)
    left = leave_machines_out(scene, kept)
    result = Mixture(make_reduced_gate(left, carried, recipe, held.y), carried.experts)
    with np.errstate(all="ignore"):  # fits that were left out may hold anything
        far = [
            measure_divergence(scene.x, scene.weights, m, result, scene.cost)
            for m in scene.mixtures
        ]
        misfit = measure_misfits(scene, result)
    strain = measure_strain(left, compare_fits(left), misfit[kept])
    plain = sort_experts(map_covariates(result, scene.back))
    return ReductionResult(plain, carried.trace, np.array(far), kept, misfit, strain)


def find_usable(scene: ReductionInputs, recipe: ReductionConfig) -> Array:
    """Tell which fits may take part: all that are finite, or those that stand together, [M]."""
    distance = compare_fits(scene)
    if recipe.screen:
        return screen_fits(distance, scene.rows)
    return np.asarray(np.isfinite(distance).any(1))


def transport_and_screen(
    locals_: Sequence[LocalFit[E]],
    support: Support,
    kept: Array,
    recipe: ReductionConfig,
    rng: np.random.Generator,
) -> tuple[Array, TransportResult[E]]:
    """Carry, judge the fits by what comes out, leave bad ones out, and carry the rest again.

    They are judged by the result with the average gate, on which each fit has its share of
    influence; in the others a fit that claims to know much can draw the gate, and with it the
    verdict, to itself. The support rows of a machine leave with its fit: what spoilt the one may
    be in the other.
    """
    judgings = SCREENING_PASSES if recipe.screen else 0
    while True:
        scene = prepare_inputs(locals_, keep_support(support, kept), recipe.cost)
        left = leave_machines_out(scene, kept)
        carried = transport_from_starts(left, compare_fits(left), recipe, rng)
        bad = find_bad_fits(left, carried, recipe) if judgings else np.zeros(1, bool)
        if not bad.any():
            return kept, carried
        kept, judgings = kept.copy(), judgings - 1
        kept[kept] = ~bad


def find_bad_fits(
    scene: ReductionInputs[E], carried: TransportResult[E], recipe: ReductionConfig
) -> Array:
    """Tell which fits stand far from what came out, [M]."""
    gate = make_reduced_gate(scene, carried, replace(recipe, gate="average"), None)
    judge = Mixture(gate, carried.experts)
    return find_excessive_fits(
        measure_misfits(scene, judge), scene.rows, count_mixture_parameters(judge)
    )


def measure_misfits(scene: ReductionInputs[E], mixture: Mixture[E]) -> Array:
    """Give 2 * rows * squared Hellinger distance of every fit from a mixture, [M]."""
    step = choose_thinning(scene)
    x_SD, u_S = scene.x[::step], scene.weights[::step] / scene.weights[::step].sum()
    far = [squared_hellinger(x_SD, u_S, one, mixture) for one in scene.mixtures]
    return 2 * scene.rows * np.array(far)


def measure_strain(scene: ReductionInputs, distance_MM: Array, misfit_M: Array) -> float:
    """Compare the distances of fits from the result with those from the middle one."""
    beside = measure_misfits(scene, scene.mixtures[find_middle(distance_MM, scene.share)]).sum()
    return float(misfit_M.sum() / beside) if beside > 0 else 0.0


def reduce_fits(
    locals_: Sequence[LocalFit],
    support: Support,
    recipe: ReductionConfig,
    rng: np.random.Generator,
) -> ReductionResult:
    """Reduce by transport, or by one of the baselines, over the fits that stand together."""
    if recipe.reduction == "transport":
        return reduce_mixtures(locals_, support, recipe, rng)
    sizes = sorted({local.mixture.num_experts for local in locals_})
    if sizes != [recipe.num_experts]:
        raise ValueError(
            f"reduction={recipe.reduction!r} needs local fits with n_experts={recipe.num_experts}, "
            f"but they have {sizes}; choose reduction='transport'"
        )
    kept = find_usable(prepare_inputs(locals_, support, recipe.cost), recipe)
    chosen = [local for local, keep in zip(locals_, kept, strict=True) if keep]
    mixture = REDUCTIONS[recipe.reduction](chosen, keep_support(support, kept), recipe.cost)
    none = np.full(len(locals_), np.nan)
    return ReductionResult(mixture, (), none, kept, none, 0.0)
