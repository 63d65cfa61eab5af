"""A run is a list of stages: a method and its number of rounds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from moiety.core.protocols import Method
from moiety.core.state import State


def keep_state(state: State) -> State:
    """Enter a stage with the state as it is."""
    return state


@dataclass(frozen=True)
class Stage:
    """A method, how many rounds it plays, and how the state enters it."""

    method: Method
    rounds: int
    enter: Callable[[State], State] = keep_state


def find_stage(stages: Sequence[Stage], state: State) -> tuple[Stage | None, State]:
    """Find the stage to play next, entering it where the one before is over.

    Returns:
        The stage and the state in it; None when all stages are over.
    """
    while state.stage < len(stages):
        done = state.round - sum(stage.rounds for stage in stages[: state.stage])
        if done < stages[state.stage].rounds:
            return stages[state.stage], state
        # Jobs under way are of the method before, and so of no use to the next.
        state = replace(state, stage=state.stage + 1, clock=replace(state.clock, in_flight=()))
        if state.stage < len(stages):
            state = stages[state.stage].enter(state)
    return None, state
