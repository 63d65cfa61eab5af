"""Pooled EM steps after the reduction: as many as asked for, or until they gain no more.

Letters: M machines.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from moiety.core.state import Reply, State
from moiety.estimators.machines import ShardEngine
from moiety.methods.dmoe import judge_mixture, refine_mixture
from moiety.mixtures.degenerate import find_floored
from moiety.mixtures.em import DEFAULT_PRIOR, Prior, compute_penalised_likelihood
from moiety.mixtures.inputs import Support
from moiety.mixtures.linked import LinkedExperts
from moiety.mixtures.logit import Array
from moiety.mixtures.model import (
    Mixture,
    find_canonical_order,
    gate_proba,
    reorder_experts,
)
from moiety.mixtures.pooled import make_common_scale
from moiety.mixtures.scale import (
    goes_with_scale,
    log_jacobian,
    restore_units,
    standardise_mixture,
    standardise_pair,
)
from moiety.models.mixture import FREE, MixtureForm
from moiety.rounds.synchronous import play_round
from moiety.server.mixtures import PooledStep, recall_point
from moiety.solve.sums import PooledSums

MOST_ROUNDS = 50  # the most refining rounds where their number is not given
LEEWAY = 0.1  # of mean log density, by which machines of one law differ by chance
SMALLEST_STEP = 0.01  # a step made shorter than this says that no step gains


@dataclass(frozen=True)
class Refining:
    """How a mixture is refined: by whom, how often, and with which prior.

    Args:
        kept: tells of each worker whether its rows count, [M]; those whose fits were left out have
            none of it, unless they are judged again.
        rounds: pooled EM steps; None for as many as gain.
        tol: without a number of rounds, the gain in a row's mean log-likelihood at which they end.
        prior: ridge, variance floor, limit of slopes, penalties, and columns in use.
        form: how the mixture lies in tensors.
    """

    kept: Array
    rounds: int | None
    tol: float = 0.0
    prior: Prior = DEFAULT_PRIOR
    form: MixtureForm = FREE


@dataclass(frozen=True)
class Refined:
    """Where refining ended.

    Args:
        mixture: refined.
        rounds: pooled EM steps made.
        gain: of the last step that was looked at, per row; NaN where none was.
        log_likelihood: per row of the workers whose rows count, before the last step.
        kept: whose rows count, those that were judged again included, [M].
        floored: which experts rest on the least variance, [K].
    """

    mixture: Mixture
    rounds: int
    gain: float
    log_likelihood: float
    kept: Array
    floored: Array


def play_refining(
    mixture: Mixture, factor: float, support: Support, engine: ShardEngine, how: Refining
) -> Refined:
    """Make pooled EM steps from a mixture.

    Where their number is not given, machines that were left out are judged once more when the steps
    gain no more: one whose mean log density is at most 0.1 below that of the least likely machine
    that was kept counts from then on.

    Args:
        mixture: where they begin.
        factor: what weights of rows as they came are multiplied by.
        support: covariates, from which the common units are.
        engine: where the machines are.
        how: by whom, how often, with which prior.
    """
    scale = make_common_scale(mixture, support)
    x_SD = standardise_pair(scale, support.x, np.zeros(len(support.x)))[0]
    begin = standardise_mixture(mixture, scale)
    prior = express_prior(how.prior, measure_spread(begin, x_SD, support.weights))
    how = replace(how, prior=replace(prior, free=prior.free.express(scale)))
    form = how.form
    sums, step = PooledSums(scale, factor, form), PooledStep(how.prior, x_SD, form)
    game = PooledGame(sums, step, engine)
    state = State(form.write(begin, {}))
    state, done = game.climb(state, how)
    if how.rounds is None and not how.kept.all():
        again = game.judge_again(state, how.kept)
        if (again != how.kept).any():
            state, more = game.climb(State(state.params), replace(how, kept=again))
            done = replace(more, rounds=done.rounds + more.rounds)
    moved = form.read(state.params)
    floored, moved = find_floored(moved.experts, how.prior.floor), restore_units(moved, scale)
    order = find_canonical_order(moved)
    value = done.log_likelihood - log_jacobian(scale)
    return replace(done, mixture=reorder_experts(moved, order), log_likelihood=value,
                   floored=floored[order])  # fmt: skip


def measure_spread(mixture: Mixture, x_SD: Array, weights_S: Array) -> float:
    """Give the standard deviation that a mixture lets y have over the support; 1 for classes."""
    if not goes_with_scale(mixture.experts):
        return 1.0
    share = gate_proba(mixture, x_SD) * (weights_S / weights_S.sum())[:, None]
    means = mixture.experts.lines(x_SD)
    centre = float((share * means).sum())
    within = (
        mixture.experts.spreads[0]
        if isinstance(mixture.experts, LinkedExperts)
        else (mixture.experts.variances)
    )
    return float(np.sqrt((share * ((means - centre) ** 2 + within)).sum()))


def express_prior(prior: Prior, spread: float) -> Prior:
    """Express floor, limit and penalties, for y of spread 1, where y has another spread."""
    return replace(
        prior,
        floor=prior.floor * spread**2,
        limit=prior.limit * spread,
        own_ridge=prior.own_ridge / spread**2,
        lasso=prior.lasso / spread,
    )


@dataclass(frozen=True)
class PooledGame:
    """Rounds in which workers send sums of their rows.

    Args:
        solve: what workers answer.
        server: what is made of their answers.
        engine: where they are.
    """

    solve: PooledSums
    server: PooledStep
    engine: ShardEngine

    def climb(self, state: State, how: Refining) -> tuple[State, Refined]:
        """Make the steps asked for, or all that gain."""
        method, cohort = refine_mixture(self.solve, self.server), np.flatnonzero(how.kept).tolist()
        most = MOST_ROUNDS if how.rounds is None else how.rounds
        here, value, gain, played = None, -np.inf, np.nan, 0
        while played < most:
            played += 1
            state = play_round(method, self.engine, state, cohort, seed=0)
            here = recall_point(state.server, how.form)
            found = compute_penalised_likelihood(here.mixture, here.sums, how.prior)
            found /= float(here.sums["rows"])
            gain, value = (found - value if played > 1 else np.nan), found
            if how.rounds is None and is_at_rest(gain, here.step_size, how.tol):
                break
        assert here is not None
        mean = float(here.sums["loglik"]) / float(here.sums["rows"])
        floored = find_floored(here.mixture.experts, how.prior.floor)
        return state, Refined(here.mixture, played, gain, mean, how.kept, floored)

    def judge_again(self, state: State, kept: Array) -> Array:
        """Tell who counts, when machines that were left out are compared with those kept."""
        least = min(mean_log_density(reply) for reply in self.engine.exchanges[-1].replies)
        method, left = judge_mixture(self.solve), np.flatnonzero(~kept).tolist()
        play_round(method, self.engine, state, left, seed=0)
        again = kept.copy()
        for reply in self.engine.exchanges[-1].replies:
            again[reply.worker] = mean_log_density(reply) >= least - LEEWAY
        return again


def is_at_rest(gain: float, step_size: float, tol: float) -> bool:
    """Tell whether steps gain no more; one that was taken back is tried shorter, a few times."""
    taken_back = gain == 0.0 and step_size > SMALLEST_STEP
    return gain <= tol and not taken_back


def mean_log_density(reply: Reply) -> float:
    """Give a worker's mean log density of a row, in the common units."""
    return float(reply.answer["loglik"]) / float(reply.answer["rows"])
