"""Rounds whose merge is told who was asked, and has noise that is secret."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from moiety.core.ledger import Round
from moiety.core.protocols import Engine, Method
from moiety.core.state import State
from moiety.merge.private import PrivateMean
from moiety.ops.keyed_noise import draw_keyed_uniform
from moiety.rounds.commit import commit_replies
from moiety.rounds.meter import Meter, Stopwatch
from moiety.rounds.synchronous import Dispatch, SynchronousRounds, split_cohort


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
class PrivateRounds:
    """Rounds that wait for all, of a method whose merge is a private mean.

    Who was asked, and for what, is a function of the state and of what everybody knows, so the
    merge divides by what no reply can change. Where nobody is to know who takes part, all hold the
    same, and it divides by how many take part on average; a round of nobody is noise alone.

    Args:
        method: the choices.
        rounds: how they are played.
        noise: standard deviation over the largest norm of a change.
        mean_size: workers a round on average, where nobody knows who; 0 where all know.
        key: of the noise.
        spend: epsilon after so many rounds.
    """

    method: Method
    rounds: SynchronousRounds
    noise: float
    mean_size: float
    key: bytes
    spend: Callable[[int], float]

    @property
    def engine(self) -> Engine:
        """What runs the jobs."""
        return self.rounds.engine

    def advance(self, state: State, /) -> tuple[State, Round]:
        rounds, merge = self.rounds, self.method.merge
        assert isinstance(merge, PrivateMean)
        cohort = rounds.cohort(state.round, rounds.seed)
        dispatch = Dispatch(concurrency=rounds.concurrency)
        told = (0,) if self.mean_size else cohort
        shares = split_cohort(self.method, state, told, {}, rounds.seed, dispatch)
        parts = tuple(share.part for share in shares.values())
        each = self.mean_size or 1.0
        merge = replace(merge, noise=self.noise, parts=parts, each=each, key=self.key)
        method = replace(self.method, merge=merge)
        if cohort:
            after, entry = replace(rounds, method=method).advance(state)
        else:
            after = commit_replies(method, state, ())
            entry = Meter(Stopwatch(self.engine.transfers)).make_round(method, after)
        return after, replace(entry, epsilon=self.spend(after.round))
