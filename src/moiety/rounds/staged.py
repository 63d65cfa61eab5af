"""A round is one call: ``advance(state) -> state, round``. Rounds of several stages follow here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from moiety.core.courier import Courier
from moiety.core.ledger import Round
from moiety.core.protocols import Engine
from moiety.core.stage import Stage, find_stage
from moiety.core.state import State
from moiety.rounds.asynchronous import AsynchronousRounds, Concurrency
from moiety.rounds.cohort import CohortRule
from moiety.rounds.private import PrivateRounds
from moiety.rounds.real_time import RealTimeRounds
from moiety.rounds.schedule import Schedule
from moiety.rounds.synchronous import SynchronousRounds

Standing = TypeVar("Standing")
"""What survives a round: a ``State``, or the blocks of one rank."""


class Rounds(Protocol[Standing]):
    """How a run goes from one commit to the next: a value, with the choices and the seed in it."""

    def advance(self, state: Standing, /) -> tuple[Standing, Round]:
        """Play one round.

        Returns:
            Where the run stands after it, and what the ledger says of it.
        """
        ...


@dataclass(frozen=True)
class StagedRounds:
    """Rounds of stages that follow each other.

    Args:
        stages: methods and their rounds.
        rounds: how a stage is played; its method is that of the stage.
    """

    stages: Sequence[Stage]
    rounds: SynchronousRounds | AsynchronousRounds | RealTimeRounds | PrivateRounds

    @property
    def engine(self) -> Engine:
        """What runs the jobs of all stages."""
        return self.rounds.engine

    def advance(self, state: State, /) -> tuple[State, Round]:
        stage, state = find_stage(self.stages, state)
        if stage is None:
            raise ValueError(f"all {state.round} rounds of all stages are played")
        return replace(self.rounds, method=stage.method).advance(state)


def stage_rounds(
    stages: Sequence[Stage],
    engine: Engine,
    cohort: CohortRule,
    seed: int,
    schedule: Schedule,
    concurrency: Concurrency,
) -> StagedRounds:
    """Choose how stages are played, by when the server commits.

    Args:
        stages: methods and their rounds.
        engine: runs the jobs.
        cohort: who takes part where the server waits for all.
        seed: of the run.
        schedule: when the server commits.
        concurrency: who may work at a time where it does not wait.
    """
    method = stages[0].method
    if schedule.is_synchronous:
        limit = concurrency.limit
        rounds = SynchronousRounds(method, engine, cohort, seed, schedule, limit)
    elif isinstance(engine, Courier):
        rounds = RealTimeRounds(method, engine, engine, concurrency, seed, schedule)
    else:
        rounds = AsynchronousRounds(method, engine, concurrency, seed, schedule)
    return StagedRounds(stages, rounds)
