"""``moiety plan``: what a recipe would cost, before anything runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from moiety.core.errors import UnknownNameError, UsageError
from moiety.ops.text import align_columns
from moiety.plan.choice import Choice, choose_method, explain_cost_source
from moiety.plan.costs import (
    AVERAGED_BY_ROUND,
    AVERAGED_BY_STEP,
    Forecast,
    Setting,
    forecast_round,
    forecast_traffic,
    list_baselines,
)
from moiety.plan.count import Link, Traffic, interpolate_statistical_cost
from moiety.plan.outline import AbstractRun, abstract_run
from moiety.plan.routing import warn_of_routing
from moiety.privacy.crowd import Crowd, PrivatePlan, forecast_privacy
from moiety.recipes.population import Partition
from moiety.recipes.private import check_private
from moiety.recipes.record import Federation
from moiety.run.cohort import choose_cohort_rule
from moiety.run.commands.common import check_record
from moiety.run.commands.recipe import parse_recipe
from moiety.run.commands.words import BESIDE
from moiety.run.echo import echo, echo_json, echo_warning

NOT_SYNCHRONOUS = (
    "schedule.kind {}: the run does not wait for all, but the round counted here does; a job's "
    "steps, bytes and memory are the same"
)

EXAMPLES = """
examples:
  moiety plan ddome-fashion --net normed --normed.hidden 512 512
  moiety plan ddome-fashion --net normed --normed.hidden 2048 2048 --flops 5e9
"""

MEASURED = "measured"


@dataclass(frozen=True)
class PlanArguments:
    """What can be said behind ``moiety plan RECIPE``.

    Args:
        record: the recipe's fields.
        link_mbit: megabits a second of the link.
        latency_ms: milliseconds until the first byte arrives.
        layout: who sends what: ``server`` (what the ledger counts), ``central`` (a worker is the
            server) or ``ring`` (all store and send alike; all-reduce).
        flops: operations a second of a worker, e.g. 5e9, or ``measured``: here, with the shapes
            of the pieces.
        launch_ms: milliseconds that a step takes besides.
        statistical_cost: local steps of parts over those of local SGD, to one accuracy; 0 takes
            what was measured once (docs/planning.md).
        memory_gb: memory of a worker; 0 for as much as need be.
        config: a TOML file of fields, applied before the others.
        json: print as JSON.
    """

    record: Federation = field(default_factory=Federation, metadata=BESIDE)
    link_mbit: float = 100.0
    latency_ms: float = 1.0
    layout: str = "server"
    flops: str = MEASURED
    launch_ms: float = 0.0
    statistical_cost: float = 0.0
    memory_gb: float = 0.0
    config: Path | None = None
    json: bool = False


def do_plan(words: Sequence[str]) -> int:
    """Plan."""
    about = f"Say what a recipe would cost, and which method to choose.\n{EXAMPLES}"
    _, said = parse_recipe(words, "plan", about, PlanArguments)
    record, setting = check_record(said.record), read_setting(said)
    check_private(record)
    plan = abstract_run(record, record.seed, partial(draw_first_cohort, record))
    told = forecast_methods(plan, setting)
    steps = max(one.cost.steps for one in told.found.values())
    num = len(plan.rows)
    given = said.statistical_cost
    cost = (given, given) if given else interpolate_statistical_cost(num, steps)
    choice = choose_method(told.found, steps, cost, said.memory_gb * 1e9)
    for warning in warn_of_routing(plan):
        echo_warning(warning)
    if not record.schedule.is_synchronous and said.json:
        echo_warning(NOT_SYNCHRONOUS.format(record.schedule.kind))
    private = plan_privacy(plan) if record.privacy.is_on else None
    if said.json:
        more = {} if private is None else {"privacy": asdict(private)}
        echo_json({**plan_to_plain(told, choice, num, steps, setting), **more})
    else:
        print_plan(said, told, choice, num, steps)
        if private is not None:
            echo(describe_private_plan(private))
    return 0


def draw_first_cohort(record: Federation, places: Partition) -> Sequence[int]:
    """Name those who take part in the first round."""
    return choose_cohort_rule(record.participation, len(places.train), places.anchors)(
        0, record.seed
    )


def describe_private_plan(told: PrivatePlan) -> str:
    """Say in a line what a private run will promise."""
    found = {f"a worker (noise {told.noise:g})": told.epsilon, "a row": told.row_epsilon}
    costs = [f"epsilon {e:.4g} for {unit}" for unit, e in found.items() if e is not None]
    return f"privacy: {told.rounds} rounds cost {' and '.join(costs)}, at delta {told.delta:g}"


def plan_privacy(plan: AbstractRun) -> PrivatePlan:
    """Say what a private run will promise.

    Raises:
        ValueError: for a budget that no round keeps.
    """
    record, task = plan.record, plan.task
    rule = choose_cohort_rule(record.participation, task.population, task.anchors)
    epochs = record.local.epochs
    crowd = Crowd(task.population, task.workers, rule, record.seed, record.rounds, epochs)
    return forecast_privacy(record.privacy, crowd)


def read_setting(said: PlanArguments) -> Setting:
    """Read the setting.

    Raises:
        UsageError: for numbers that cannot be meant.
    """
    if not all(0 <= one < math.inf for one in (said.statistical_cost, said.memory_gb)):
        raise UsageError(
            f"--statistical-cost {said.statistical_cost} and --memory-gb {said.memory_gb} must be "
            "finite and must not be below 0"
        )
    try:
        flops = 0.0 if said.flops == MEASURED else float(said.flops)
    except ValueError:
        flops = -1.0
    if said.flops != MEASURED and not 0 < flops < float("inf"):
        raise UsageError(f"--flops {said.flops!r}; give a number above 0, e.g. 5e9, or 'measured'")
    try:
        link = Link(said.link_mbit, said.latency_ms)
        return Setting(link, said.layout, flops, said.launch_ms / 1e3)
    except ValueError as error:
        raise UsageError(str(error)) from error


@dataclass(frozen=True)
class MethodForecasts:
    """What can be said of the methods, by name.

    Args:
        found: methods of which all is known.
        sent: those of which only a run can tell how long workers work: what a round sends.
        silent: why of the others, and of those, nothing more is known.
    """

    found: Mapping[str, Forecast]
    sent: Mapping[str, Traffic]
    silent: Mapping[str, str]


def forecast_methods(plan: AbstractRun, setting: Setting) -> MethodForecasts:
    """Forecast every method that can be, and say of the others why not."""
    found, sent, silent = {}, {}, {}
    for name in dict.fromkeys((*list_baselines(plan), *plan.record.methods)):
        try:
            found[name] = forecast_round(name, plan, setting)
        except UnknownNameError:
            raise
        except ValueError as error:
            silent[name] = str(error)
            traffic = forecast_traffic(name, plan, setting)
            if traffic is not None:
                sent[name] = traffic
    for name in (AVERAGED_BY_ROUND, AVERAGED_BY_STEP):
        if name in silent:  # without them there is nothing to compare with
            raise UsageError(f"this recipe cannot be planned: {name}: {silent[name]}")
    return MethodForecasts(found, sent, silent)


def plan_to_plain(
    told: MethodForecasts, choice: Choice, num: int, steps: int, setting: Setting
) -> dict[str, Any]:
    """Write a plan as plain data."""
    methods = {
        name: {**asdict(one), "round_s": one.round_s, "steps_s": one.seconds(steps)}
        for name, one in told.found.items()
    }
    return {
        "workers": num,
        "steps": steps,
        "setting": asdict(setting),
        "methods": methods,
        "traffic": {name: asdict(one) for name, one in told.sent.items()},
        "unknown": dict(told.silent),
        "choice": asdict(choice),
    }


HEADS = ("method", "steps", "MFLOP/step", "out MB", "in MB", "all MB", "memory MB", "round s")


def print_plan(
    said: PlanArguments, told: MethodForecasts, choice: Choice, num: int, steps: int
) -> None:
    """Print a plan."""
    echo(
        f"{num} workers, {said.link_mbit:g} Mbit/s, {said.latency_ms:g} ms, layout {said.layout}, "
        f"device speed {said.flops}; per worker, the largest; bytes of one round\n"
    )
    rows = [write_forecast_row(one, steps) for one in told.found.values()]
    rows += [write_traffic_row(name, one) for name, one in told.sent.items()]
    echo(align_columns([[*HEADS, f"{steps} steps s"], *rows]))
    for name, one in told.found.items():
        if one.constant_bytes:
            echo(f"{name}: each worker downloads {one.constant_bytes / 1e6:.4g} MB once besides")
    for name, reason in told.silent.items():
        planned = "bytes alone" if name in told.sent else "not planned"
        echo(f"{name}: {planned}: {reason}")
    schedule = said.record.schedule
    if not schedule.is_synchronous:
        echo(NOT_SYNCHRONOUS.format(schedule.kind))
    moderate, late = choice.statistical_cost
    source = "as you said" if said.statistical_cost else explain_cost_source(choice)
    echo(
        f"\nsystem gain {choice.system_gain:.2f}; statistical cost {moderate:.3g} to a moderate "
        f"accuracy, {late:.3g} near the end ({source})"
    )
    echo(f"choose {choice.method}: {choice.reason}")


def write_forecast_row(one: Forecast, steps: int) -> list[str]:
    """Write a forecast as words."""
    cost = one.cost
    return [
        one.method,
        str(cost.steps),
        f"{cost.step_flops / 1e6:.4g}",
        *write_megabytes(one.traffic),
        f"{one.memory_bytes / 1e6:.4g}",
        f"{one.round_s:.3g}",
        f"{one.seconds(steps):.3g}",
    ]


def write_traffic_row(name: str, sent: Traffic) -> list[str]:
    """Write what is known of a method of which only a run can tell how long workers work."""
    return [name, "-", "-", *write_megabytes(sent), "-", "-", "-"]


def write_megabytes(sent: Traffic) -> list[str]:
    """Write bytes out, in and of all as megabytes."""
    return [f"{size / 1e6:.4g}" for size in (sent.out, sent.into, sent.total)]
