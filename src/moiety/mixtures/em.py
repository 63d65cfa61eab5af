"""EM from sums over rows.

Letters: N rows, D columns with the constant, K experts, J = K - 1.

One function touches the rows: :func:`sum_rows` gives the log-likelihood and what an M-step needs;
its results add. So the same fit runs on an array, on blocks of a file, and on machines that send
sums. The gate makes one Newton step per M-step (a generalised EM); a step that would lower the
penalised likelihood is halved.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from moiety.mixtures.experts import StepOptions
from moiety.mixtures.freedom import ALL_FREE, Freedom, advance_free, cut_information
from moiety.mixtures.logit import (
    Array,
    assemble_symmetric,
    curvature,
    make_slope_penalty,
    split_softmax,
    weighted_grams,
)
from moiety.mixtures.model import E, Mixture
from moiety.mixtures.noise import admit_noise
from moiety.mixtures.penalties import measure_groups, step_with_group_lasso

BLOCK_ENTRIES = (
    32_768  # entries of a block of covariates; its weighted copies stay near the processor
)
Sums = Mapping[str, Array]
Block = tuple[Array, Array, Array]


@dataclass(frozen=True)
class Prior:
    """What keeps a fit finite, or small: penalties are per row.

    Args:
        ridge: half of it times each squared slope of the gate, and of experts but normal ones.
        floor: the least variance.
        limit: of slopes of normal experts, a soft one.
        own_ridge: half of it times each squared slope of any experts.
        lasso: times the absolute value of each slope of the experts.
        gate_lasso: times the norm, around its mean, of the gate's coefficients of each covariate.
        free: which columns gate and experts use.
    """

    ridge: float = 1e-7
    floor: float = 1e-6
    limit: float = np.inf
    own_ridge: float = 0.0
    lasso: float = 0.0
    gate_lasso: float = 0.0
    free: Freedom = ALL_FREE

    @property
    def is_smooth(self) -> bool:
        """Tell whether no penalty makes coefficients exactly 0."""
        return not (self.lasso or self.gate_lasso)

    def weigh(self, rows: float, step_size: float = 1.0) -> StepOptions:
        """Give what an M-step on so many rows needs."""
        own = self.own_ridge * rows, self.lasso * rows
        together = self.free.find_shared_rows(), self.free.one_spread
        return StepOptions(self.ridge * rows, self.floor, step_size, self.limit, *own, *together)


DEFAULT_PRIOR = Prior()


def sum_block(mixture: Mixture, x_ND: Array, y: Array, weights_N: Array) -> Sums:
    """Sum over a block: rows, log-likelihood, Gram matrices, slopes, squares and expert masses."""
    experts = mixture.experts
    lines = experts.lines(x_ND)
    scores = x_ND @ mixture.gate
    total, gate = split_softmax(scores)
    joint = scores + experts.log_density(lines, y)
    value, shares = split_softmax(joint)
    value -= total
    if mixture.noise is not None:
        joint, value = admit_noise(joint - total[:, None], value, mixture.noise, y)
        shares = np.exp(joint - value[:, None])
    shares *= weights_N[:, None]
    gate = gate[:, :-1]
    found = experts.prepare_step(lines, y, shares)
    told = weights_N if mixture.noise is None else shares.sum(1)
    weighed = told[:, None] * gate
    curves = np.concatenate([told[:, None] * curvature(gate), found.curves], 1)
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
    gate = step_gate(mixture, sums, prior, step_size) if free else mixture.gate.copy()
    rows = prior.free.find_expert_rows(len(gate))
    experts = advance_free(
        mixture.experts, sums["grams"][cut:], sums["slopes"][:, free:], sums["squares"], options,
        rows,
    )  # fmt: skip
    noise = mixture.noise
    if noise is not None:
        silent = float(sums["rows"] - sums["mass"].sum()) / float(sums["rows"])
        noise = replace(noise, share=min(max(silent, 0.0), 1.0))
    return Mixture(gate, experts, noise)


def step_gate(mixture: Mixture, sums: Sums, prior: Prior, step_size: float) -> Array:
    """Make the Newton step of the gate, [D, K]."""
    free, gate = mixture.num_experts - 1, mixture.gate.copy()
    rows, count = prior.free.find_gate_rows(len(gate)), float(sums["rows"])
    penalty = make_slope_penalty((len(gate), free), prior.ridge * count)[rows]
    information = assemble_gate_information(mixture, sums)
    if len(rows) < len(gate):
        information = cut_information(information, rows, free)
    slope, here = sums["slopes"][rows, :free], gate[rows, :-1]
    step = step_with_group_lasso(slope, information, here, penalty, prior.gate_lasso * count)
    gate[rows, :-1] += step_size * step
    return gate


def compute_penalised_likelihood(mixture: Mixture, sums: Sums, prior: Prior) -> float:
    """Give the log-likelihood less the ridge's penalty."""
    options = prior.weigh(float(sums["rows"]))
    gate = 0.5 * options.ridge * float((mixture.gate[1:, :-1] ** 2).sum())
    if prior.gate_lasso:
        gate += prior.gate_lasso * float(sums["rows"]) * measure_groups(mixture.gate)
    return float(sums["loglik"]) - gate - mixture.experts.penalty(options)
