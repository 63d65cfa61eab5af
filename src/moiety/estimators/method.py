"""An estimator's choices as a method, and its first round played on the engine of shards.

Letters: M machines.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np

from moiety.core.ledger import Round
from moiety.core.protocols import Method
from moiety.core.state import Job, State
from moiety.estimators.exchange import Spent
from moiety.estimators.machines import ShardEngine
from moiety.merge.transport import Transport
from moiety.methods.dmoe import exchange_mixtures
from moiety.mixtures.fit import Search
from moiety.mixtures.inputs import Support
from moiety.mixtures.poisson import POISSON
from moiety.mixtures.reduce import ReductionConfig, ReductionResult
from moiety.mixtures.worker import FitTask
from moiety.models.mixture import MixtureForm
from moiety.rounds.cohort import FixedCohort
from moiety.rounds.synchronous import SynchronousRounds, initialise_state
from moiety.solve.em import LocalEM

Streams = Sequence[np.random.Generator]
T = TypeVar("T")


@dataclass(frozen=True)
class SpawnedStreams:
    """Give every worker its own stream, the same whenever it is asked for."""

    streams: Streams

    def __call__(self, job: Job) -> np.random.Generator:
        return copy.deepcopy(self.streams[job.worker])


def make_fit_method(
    task: FitTask,
    recipe: ReductionConfig,
    streams: Streams,
    support: Support | None,
    *,
    labelled: bool,
) -> Method:
    """Make the method of the one exchange; the last stream is the server's."""
    form = choose_mixture_form(task.search)
    solve = LocalEM(task, form, SpawnedStreams(streams), weighed=True, labelled=labelled)
    draw = partial(copy.deepcopy, streams[-1])
    return exchange_mixtures(solve, Transport(recipe, draw, form, told=True, support=support))


def choose_mixture_form(search: Search) -> MixtureForm:
    """Find how mixtures lie in tensors when they travel."""
    return MixtureForm(free=True, law=search.law or POISSON)


def measure_server(engine: ShardEngine, play: Callable[[], T]) -> tuple[T, Spent]:
    """Play something; give also what the server spent while it did not wait."""
    before, begun = len(engine.exchanges), (time.perf_counter(), time.thread_time())
    result = play()
    spent = time.perf_counter() - begun[0], time.thread_time() - begun[1]
    waits = engine.exchanges[before:]
    waited = sum(one.seconds for one in waits), sum(one.cpu_s for one in waits)
    return result, Spent(spent[0] - waited[0], spent[1] - waited[1])


def play_fit(method: Method, engine: ShardEngine) -> tuple[tuple[State, Round], Spent]:
    """Let all machines fit, and reduce; the round tells whose fits were refused."""
    cohort = FixedCohort(tuple(range(len(engine.opened))))
    rounds, state = SynchronousRounds(method, engine, cohort, 0), initialise_state(method)
    return measure_server(engine, lambda: rounds.advance(state))


def restore_refused(done: ReductionResult, refused: Collection[int]) -> ReductionResult:
    """Give a reduction places for the fits that were refused: they were left out, [M]."""
    if not refused:
        return done
    accepted = np.ones(len(done.kept) + len(refused), bool)
    accepted[list(refused)] = False
    kept, far = np.zeros(len(accepted), bool), np.full((2, len(accepted)), np.nan)
    kept[accepted], far[:, accepted] = done.kept, (done.divergence, done.misfit)
    return replace(done, kept=kept, divergence=far[0], misfit=far[1])
