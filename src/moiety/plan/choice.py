"""Which method a plan should choose: what a round saves against what it costs in rounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from moiety.plan.costs import AVERAGED_BY_ROUND, AVERAGED_BY_STEP, Forecast

BASIS = "ist"
"""The method whose statistical cost was measured; of other methods with parts it is assumed."""

LEVEL = 1.1
"""Ratio of seconds up to which data parallelism, which averages every step, is preferred."""


@dataclass(frozen=True)
class Choice:
    """A method, why, and the two factors weighed; ``part`` is the method with parts, if any."""

    method: str
    reason: str
    system_gain: float
    statistical_cost: tuple[float, float]
    part: str = ""


def choose_method(
    found: Mapping[str, Forecast], steps: int, cost: tuple[float, float], memory: float = 0.0
) -> Choice:
    """Choose among forecasts.

    Parts pay where the system gain (seconds of local SGD over theirs, for as many local steps)
    exceeds the statistical cost (their local steps over those of local SGD, to one accuracy).

    Args:
        found: method -> forecast; with both methods with whole models.
        steps: local steps to compare at.
        cost: statistical cost to a moderate accuracy and near the end.
        memory: bytes of a worker; 0 for as many as need be.
    """
    by_round, by_step = found[AVERAGED_BY_ROUND], found[AVERAGED_BY_STEP]
    # Averaging every step is preferred where it costs next to nothing.
    whole = by_step if by_step.seconds(steps) <= LEVEL * by_round.seconds(steps) else by_round
    room = memory or math.inf
    if whole.memory_bytes > room:
        whole = min((by_round, by_step), key=lambda one: one.memory_bytes)
    cost_of_averaging = "costs next to nothing" if whole is by_step else "would cost more"
    why_whole = f"averaging at every step {cost_of_averaging} on this link"
    if min(one.memory_bytes for one in found.values()) > room:
        return explain_misfit(found, cost)
    parts = [one for one in found.values() if one.share < 1]
    if not parts:
        reason = f"no method here assigns the model's axes; {why_whole}"
        return Choice(whole.method, reason, 1.0, cost)
    part = min(parts, key=lambda one: (one.memory_bytes > room, one.seconds(steps)))
    gain = whole.seconds(steps) / part.seconds(steps)
    moderate, late = cost
    told = f"{part.method} is {gain:.2f} times as fast a step as {whole.method}"
    if whole.memory_bytes > room >= part.memory_bytes:
        reason = "the whole does not fit into a worker's memory"
        return Choice(part.method, reason, gain, cost, part.method)
    if part.memory_bytes > room:
        reason = f"{part.method} does not fit into a worker's memory"
        return Choice(whole.method, reason, gain, cost, part.method)
    if gain > late:
        reason = f"{told} and needs {late:.3g} times the steps at most"
        return Choice(part.method, reason, gain, cost, part.method)
    if gain > moderate:
        reason = (
            f"{told}: more than the {moderate:.3g} times the steps it needs to a moderate "
            f"accuracy, less than the {late:.3g} times near the end, where {whole.method} is first"
        )
        return Choice(part.method, reason, gain, cost, part.method)
    reason = f"{told}, but needs {moderate:.3g} times the steps or more; {why_whole}"
    return Choice(whole.method, reason, gain, cost, part.method)


def explain_misfit(found: Mapping[str, Forecast], cost: tuple[float, float]) -> Choice:
    """Name what needs the least, and say that a worker has less."""
    least = min(found.values(), key=lambda one: one.memory_bytes)
    reason = (
        "no method fits into a worker's memory, and it needs the least "
        f"({least.memory_bytes / 1e6:.3g} MB); take more workers, narrower layers, smaller "
        "batches, or local.accumulate"
    )
    return Choice(least.method, reason, 1.0, cost, least.method if least.share < 1 else "")


def explain_cost_source(choice: Choice) -> str:
    """Say where the statistical cost comes from that was not given."""
    if choice.part in ("", BASIS):
        return "assumed, see docs/planning.md"
    return f"assumed of {choice.part}, measured for {BASIS} alone; see docs/planning.md"
