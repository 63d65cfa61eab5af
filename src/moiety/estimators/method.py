"""An estimator's choices as a method, and its rounds played on the engine of shards.

Letters: M machines.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from moiety.core.protocols import Method
from moiety.core.state import Job, State
from moiety.estimators.exchange import Spent
from moiety.estimators.machines import ShardEngine
from moiety.merge.transport import SentFits, Transport
from moiety.methods.dmoe import exchange_mixtures, refine_mixture
from moiety.mixtures.em import DEFAULT_PRIOR, Prior
from moiety.mixtures.model import Mixture, sort_experts
from moiety.mixtures.pooled import make_common_scale
from moiety.mixtures.reduce import ReductionConfig
from moiety.mixtures.scale import restore_units, standardise_mixture, standardise_pair
from moiety.mixtures.worker import FitTask
from moiety.models.mixture import FREE
from moiety.rounds.synchronous import initialise_state, play_round
from moiety.server.mixtures import PooledStep
from moiety.solve.em import LocalEM
from moiety.solve.sums import PooledSums

Streams = Sequence[np.random.Generator]


@dataclass(frozen=True)
class SpawnedStreams:
    """Give every worker its own stream, the same whenever it is asked for."""

    streams: Streams

    def __call__(self, job: Job) -> np.random.Generator:
        return copy.deepcopy(self.streams[job.worker])


def make_fit_method(
    task: FitTask, recipe: ReductionConfig, streams: Streams, *, labelled: bool
) -> Method:
    """Make the method of the one exchange; the last stream is the server's."""
    draw = SpawnedStreams(streams)
    solve = LocalEM(task, FREE, draw, weighed=True, labelled=labelled)
    return exchange_mixtures(
        solve, Transport(recipe, partial(copy.deepcopy, streams[-1]), FREE, told=True)
    )


def play_timed(
    method: Method, engine: ShardEngine, state: State, cohort: Sequence[int], rounds: int
) -> tuple[State, Spent]:
    """Play rounds; give also what the server spent while it did not wait."""
    before, begun = len(engine.exchanges), (time.perf_counter(), time.thread_time())
    for _ in range(rounds):
        state = play_round(method, engine, state, cohort, seed=0)
    spent = time.perf_counter() - begun[0], time.thread_time() - begun[1]
    waits = engine.exchanges[before:]
    waited = sum(one.seconds for one in waits), sum(one.cpu_s for one in waits)
    return state, Spent(spent[0] - waited[0], spent[1] - waited[1])


def play_fit(method: Method, engine: ShardEngine) -> tuple[State, Spent]:
    """Let all machines fit, and reduce."""
    cohort = range(len(engine.opened))
    return play_timed(method, engine, initialise_state(method), cohort, 1)


@dataclass(frozen=True)
class Refining:
    """How a mixture is refined: by whom, how often, and with which prior.

    Args:
        cohort: workers whose rows count; those whose fits were left out have none of it.
        rounds: pooled EM steps.
        prior: ridge and variance floor.
    """

    cohort: Sequence[int]
    rounds: int
    prior: Prior = DEFAULT_PRIOR


def play_refining(
    mixture: Mixture, sent: SentFits, engine: ShardEngine, how: Refining
) -> tuple[Mixture, Spent]:
    """Make pooled EM steps from a mixture."""
    support = sent.support
    scale = make_common_scale(mixture, support)
    x_SD = standardise_pair(scale, support.x, np.zeros(len(support.x)))[0]
    method = refine_mixture(PooledSums(scale, sent.factor), PooledStep(how.prior, x_SD))
    state = State(FREE.write(standardise_mixture(mixture, scale), {}))
    state, spent = play_timed(method, engine, state, how.cohort, how.rounds)
    return sort_experts(restore_units(FREE.read(state.params), scale)), spent
