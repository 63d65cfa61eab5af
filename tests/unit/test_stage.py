"""A run is a list of stages."""

from dataclasses import replace
from types import SimpleNamespace

import torch

from moiety.core.stage import Stage, find_stage
from moiety.core.state import State

STATE = State({"w": torch.zeros(1)})


def stages(*rounds: int) -> list[Stage]:
    """Stages whose methods are only told apart."""
    return [Stage(SimpleNamespace(name=place), count) for place, count in enumerate(rounds)]  # type: ignore[arg-type]


def test_rounds_find_their_stage():
    plan, state, seen = stages(2, 0, 1), STATE, []
    while True:
        stage, state = find_stage(plan, state)
        if stage is None:
            break
        seen.append((stage.method.name, state.round, state.stage))
        state = replace(state, round=state.round + 1)
    assert seen == [(0, 0, 0), (0, 1, 0), (2, 2, 2)]
    assert state.round == 3


def test_a_stage_is_entered_once():
    def enter(state: State) -> State:
        before = state.server.get("entered", {"times": torch.tensor(0)})
        return replace(state, server={"entered": {"times": before["times"] + 1}})

    first, second = stages(1, 2)
    plan = [first, replace(second, enter=enter)]
    stage, state = find_stage(plan, STATE)
    assert stage is first
    assert state is STATE
    for after in (1, 2):
        stage, state = find_stage(plan, replace(state, round=after))
        assert stage.method.name == 1
        assert state.server["entered"]["times"].item() == 1
        assert state.stage == 1


def test_no_stage_is_over_at_once():
    assert find_stage([], STATE) == (None, STATE)
