"""EM from sums over rows.

Letters: N rows, D columns with the constant, K experts, J = K - 1.

One function touches the rows: :func:`sum_rows` gives the log-likelihood and what an M-step needs;
its results add. So the same fit runs on an array, on blocks of a file, and on machines that send
sums. The gate makes one Newton step per M-step (a generalised EM); a step that would lower the
penalised likelihood is halved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic

import numpy as np

from moiety.mixtures.experts import StepOptions
from moiety.mixtures.logit import (
    Array,
    assemble_symmetric,
    curvature,
    log_softmax,
    log_sum_exp,
    make_slope_penalty,
    newton_step,
    weighted_grams,
)
from moiety.mixtures.model import E, Mixture

BLOCK_ENTRIES = (
    32_768  # entries of a block of covariates; its weighted copies stay near the processor
)
ROUNDING = 1e-12  # a fall of the objective, relative, that is no fall
Sums = Mapping[str, Array]
Block = tuple[Array, Array, Array]


@dataclass(frozen=True)
class Prior:
    """What keeps a fit finite: a ridge per row, the least variance, a soft limit of slopes."""

    ridge: float = 1e-7
    floor: float = 1e-6
    limit: float = np.inf

    def weigh(self, rows: float, step_size: float = 1.0) -> StepOptions:
        """Give what an M-step on so many rows needs."""
        return StepOptions(self.ridge * rows, self.floor, step_size, self.limit)


@dataclass(frozen=True)
class Fit(Generic[E]):
    """A fitted mixture, the log-likelihoods around every M-step, and the last sums.

    ``before`` counts steps over the same rows that led to the start.
    """

    mixture: Mixture[E]
    trace: tuple[float, ...]
    sums: Sums
    converged: bool
    before: int = 0

    @property
    def steps(self) -> int:
        """Count the steps in all."""
        return self.before + len(self.trace) - 1


def sum_block(mixture: Mixture, x_ND: Array, y: Array, weights_N: Array) -> Sums:
    """Sum over a block: rows, log-likelihood, Gram matrices, slopes, squares and expert masses."""
    experts = mixture.experts
    lines = experts.lines(x_ND)
    log_gate = log_softmax(x_ND @ mixture.gate)
    joint = log_gate + experts.log_density(lines, y)
    value = log_sum_exp(joint)
    shares = np.exp(joint - value[:, None]) * weights_N[:, None]
    gate = np.exp(log_gate[:, :-1])
    found = experts.prepare_step(lines, y, shares)
    weighed = weights_N[:, None] * gate
    curves = np.concatenate([weights_N[:, None] * curvature(gate), found.curves], 1)
    slopes = np.concatenate([shares[:, :-1] - weighed, found.slopes], 1)
    return {
        "rows": weights_N.sum(),
        "loglik": weights_N @ value,
        "grams": weighted_grams(x_ND, curves),
        "slopes": x_ND.T @ slopes,
        "squares": found.squares,
        "mass": shares.sum(0),
    }


def add_two_sums(first: Sums, second: Sums) -> Sums:
    """Add two sums."""
    return {name: first[name] + second[name] for name in first}


def add_all_sums(parts: Iterable[Sums]) -> Sums:
    """Add sums in the order given."""
    parts = iter(parts)
    result = next(parts)
    for part in parts:
        result = add_two_sums(result, part)
    return result


def cut_block(block: Block) -> Iterator[Block]:
    """Cut a block into pieces that fit the processor's cache."""
    rows, columns = block[0].shape
    step = max(512, BLOCK_ENTRIES // columns)
    for at in range(0, rows, step):
        part = slice(at, at + step)
        yield block[0][part], block[1][part], block[2][part]


def sum_rows(mixture: Mixture, blocks: Iterable[Block]) -> Sums:
    """Sum over blocks ``(x_ND, y, weights)`` of any length."""
    return add_all_sums(sum_block(mixture, *part) for block in blocks for part in cut_block(block))


def assemble_gate_information(mixture: Mixture, sums: Sums) -> Array:
    """Give X'(diag(pi) - pi pi')X of the free gate columns, [J * D, J * D]."""
    free = mixture.num_experts - 1
    return assemble_symmetric(sums["grams"][: free * (free + 1) // 2], free)


def make_m_step(
    mixture: Mixture[E], sums: Sums, prior: Prior, *, step_size: float = 1.0
) -> Mixture[E]:
    """Make the M-step; ``step_size`` shortens Newton steps."""
    free = mixture.num_experts - 1
    cut = free * (free + 1) // 2
    options = prior.weigh(float(sums["rows"]), step_size)
    gate = mixture.gate.copy()
    if free:
        penalty = make_slope_penalty((gate.shape[0], free), options.ridge)
        information = assemble_gate_information(mixture, sums)
        step = newton_step(sums["slopes"][:, :free], information, gate[:, :-1], penalty)
        gate[:, :-1] += step_size * step
    experts = mixture.experts.advance(
        sums["grams"][cut:], sums["slopes"][:, free:], sums["squares"], options
    )
    return Mixture(gate, experts)


def compute_penalised_likelihood(mixture: Mixture, sums: Sums, prior: Prior) -> float:
    """Give the log-likelihood less the ridge's penalty."""
    options = prior.weigh(float(sums["rows"]))
    gate = 0.5 * options.ridge * float((mixture.gate[1:, :-1] ** 2).sum())
    return float(sums["loglik"]) - gate - mixture.experts.penalty(options)


DEFAULT_PRIOR = Prior()


def run_em(
    sum_at: Callable[[Mixture[E]], Sums],
    start: Mixture[E],
    *,
    prior: Prior = DEFAULT_PRIOR,
    tol: float = 1e-8,
    max_iter: int = 500,
) -> Fit[E]:
    """Repeat E- and M-steps until a row gains at most ``tol`` per step on average.

    An emptied expert is revived; a climb that then ends lower goes on from where it was left.

    Args:
        sum_at: the pass over all rows; called once per step, and once more per halving.
        start: where to begin.
        prior: ridge and variance floor.
        tol: the least gain in mean penalised log-likelihood that is worth another step.
        max_iter: the most M-steps.

    Raises:
        FloatingPointError: if the likelihood at the start is not finite.
    """
    at, left, revivals = _check_finite(_evaluate_at(sum_at, start, prior)), None, 3
    trace, converged = [float(at.sums["loglik"])], False
    for _ in range(max_iter):
        empty = at.sums["mass"].min() < start.gate.shape[0] + 1
        if empty and revivals and start.num_experts > 1:
            revivals -= 1
            left = _pick_better(left, at)
            at = _evaluate_at(sum_at, revive_expert(at.mixture, at.sums), prior)
        at, gain = _make_step(sum_at, at, prior)
        trace.append(float(at.sums["loglik"]))
        if gain <= tol * float(at.sums["rows"]):
            if left is None or left.value <= at.value:
                converged = True
                break
            at, left, revivals = left, None, 0
    ended = _pick_better(left, at)
    trace[-1] = float(ended.sums["loglik"])
    return Fit(ended.mixture, tuple(trace), ended.sums, converged)


@dataclass(frozen=True)
class Iterate(Generic[E]):
    """A mixture, its sums, and the penalised log-likelihood there."""

    mixture: Mixture[E]
    sums: Sums
    value: float


def _evaluate_at(
    sum_at: Callable[[Mixture[E]], Sums], mixture: Mixture[E], prior: Prior
) -> Iterate[E]:
    sums = sum_at(mixture)
    return Iterate(mixture, sums, compute_penalised_likelihood(mixture, sums, prior))


def _check_finite(at: Iterate[E]) -> Iterate[E]:
    if not np.isfinite(at.value):
        raise FloatingPointError(f"the log-likelihood at the start is {at.value}")
    return at


def _pick_better(left: Iterate[E] | None, at: Iterate[E]) -> Iterate[E]:
    """Give the best place that a revival left, or the present one if it is as good."""
    return at if left is None or left.value <= at.value else left


def _make_step(
    sum_at: Callable[[Mixture[E]], Sums], at: Iterate[E], prior: Prior
) -> tuple[Iterate[E], float]:
    """Make an M-step, with a shorter one for the gate while the objective falls."""
    for halving in range(8):
        trial = _evaluate_at(
            sum_at, make_m_step(at.mixture, at.sums, prior, step_size=0.5**halving), prior
        )
        gain = trial.value - at.value
        if gain >= -ROUNDING * abs(at.value):
            return trial, gain
    return at, 0.0


def revive_expert(mixture: Mixture[E], sums: Sums) -> Mixture[E]:
    """Replace the emptiest expert by a shifted copy of the one that leaves most unexplained."""
    empty = int(sums["mass"].argmin())
    squares = np.atleast_2d(sums["squares"])[0]  # the others are of spreads
    misfit = np.where(squares > 0, squares, sums["mass"])
    source = int(np.argmax(np.where(np.arange(len(misfit)) == empty, -np.inf, misfit)))
    order = np.arange(mixture.num_experts)
    order[empty] = source
    gate, experts = mixture.gate[:, order], mixture.experts.pick(order)
    shift = np.sqrt(squares[source] / sums["mass"][source]) or 1.0
    experts.coef.reshape(*gate.shape, -1)[0, empty, 0] += shift
    return Mixture(gate - gate[:, -1:], experts)
