"""Rounds whose merge is told who was asked, and has noise that is secret."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from moiety.core.ledger import Round
from moiety.core.protocols import Cohort, Engine, Method
from moiety.core.state import State
from moiety.merge.private import PrivateMean
from moiety.ops.keyed_noise import draw_keyed_uniform
from moiety.rounds.commit import commit_replies
from moiety.rounds.meter import Meter, Stopwatch
from moiety.rounds.synchronous import Dispatch, SynchronousRounds, split_cohort
from moiety.solve.private import PrivateDescent


@dataclass(frozen=True)
class SecretCohort:
    """Toss a coin for each of the workers 0 .. population - 1, that only the key's owner sees.

    Args:
        population: number of workers.
        chance: of each.
        key: secret.
    """

    population: int
    chance: float
    key: bytes

    def __call__(self, round_index: int, seed: int, /) -> tuple[int, ...]:
        del seed
        coins = draw_keyed_uniform(self.key, ("cohort", round_index), self.population)
        return tuple(torch.from_numpy(coins <= self.chance).nonzero()[:, 0].tolist())


@dataclass(frozen=True)
class Spending:
    """Says what rounds told.

    Args:
        of_worker: after so many rounds, of one worker; None where nothing is promised to workers.
        of_row: after so many rounds, of one row of a worker; None where nothing is promised to
            rows.
    """

    of_worker: Callable[[int], float] | None = None
    of_row: Callable[[int, int], float] | None = None


@dataclass(frozen=True)
class PrivateRounds:
    """Rounds that wait for all, of a method whose merge or whose solver draws from a key.

    Who was asked, and for what, is a function of the state and of what everybody knows, so the
    merge divides by what no reply can change. Where nobody is to know who takes part, all hold the
    same, and it divides by how many take part on average; a round of nobody is noise alone.

    Args:
        method: the choices.
        rounds: how they are played.
        spending: epsilon after so many rounds.
        noise: of the merge: standard deviation over the largest norm of a change.
        mean_size: workers a round on average, where nobody knows who; 0 where all know.
        key: of the merge's noise.
        row_key: of the noise of workers; empty where each has one of its own.
    """

    method: Method
    rounds: SynchronousRounds
    spending: Spending
    noise: float = 0.0
    mean_size: float = 0.0
    key: bytes = field(default=b"", repr=False)
    row_key: bytes = field(default=b"", repr=False)

    @property
    def engine(self) -> Engine:
        """What runs the jobs."""
        return self.rounds.engine

    def advance(self, state: State, /) -> tuple[State, Round]:
        rounds = self.rounds
        cohort = rounds.cohort(state.round, rounds.seed)
        method = give_key(self.bind_merge(state, cohort), self.row_key)
        if cohort:
            after, entry = replace(rounds, method=method).advance(state)
        else:
            after = commit_replies(method, state, ())
            entry = Meter(Stopwatch(self.engine.transfers)).make_round(method, after)
        return after, self.write_spending(entry)

    def bind_merge(self, state: State, cohort: Cohort) -> Method:
        """Tell a private merge who is asked for what."""
        method, merge, rounds = self.method, self.method.merge, self.rounds
        if not isinstance(merge, PrivateMean):
            return method
        dispatch = Dispatch(concurrency=rounds.concurrency)
        told = (0,) if self.mean_size else cohort
        shares = split_cohort(method, state, told, {}, rounds.seed, dispatch)
        parts = tuple(share.part for share in shares.values())
        each = self.mean_size or 1.0
        merge = replace(merge, noise=self.noise, parts=parts, each=each, key=self.key)
        return replace(method, merge=merge)

    def write_spending(self, entry: Round) -> Round:
        """Write down what all rounds so far told."""
        of_worker, of_row = self.spending.of_worker, self.spending.of_row
        if of_worker is not None:
            entry = replace(entry, epsilon=of_worker(entry.round))
        if of_row is not None:
            told = {str(work.worker): of_row(entry.round, work.worker) for work in entry.workers}
            entry = replace(entry, row_epsilon=told)
        return entry


def give_key(method: Method, key: bytes) -> Method:
    """Give workers the key of their noise, where they have none of their own."""
    if not key or not isinstance(method.solve, PrivateDescent):
        return method
    return replace(method, solve=replace(method.solve, key=key))
