"""``moiety plan``: what a recipe would cost, before anything runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

from moiety.core.errors import UsageError
from moiety.ops.text import columns
from moiety.plan.choice import Choice, decide, whence
from moiety.plan.costs import Forecast, Setting, baselines, exchange, forecast
from moiety.plan.count import Link, Traffic, statistical
from moiety.plan.outline import Outline, outline
from moiety.recipes.population import Places
from moiety.recipes.record import Federation
from moiety.run.cohort import chosen
from moiety.run.commands.common import check, parse, recipe_of, with_file
from moiety.run.echo import say, say_json, warn

PACE = (
    "pace.kind {}: the run does not wait for all, but the round counted here does; a job's steps, "
    "bytes and memory are the same"
)

EXAMPLES = """
examples:
  moiety plan ddome-fashion --net.kind normed --net.hidden 512 512 --turnout.size 4
  moiety plan ddome-fashion --net.kind normed --net.hidden 2048 2048 --link-mbit 1000 --flops 5e9
"""

MEASURED = "measured"


@dataclass(frozen=True)
class Words:
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

    record: Annotated[Federation, tyro.conf.arg(name="")] = field(default_factory=Federation)
    link_mbit: float = 100.0
    latency_ms: float = 1.0
    layout: str = "server"
    flops: str = MEASURED
    launch_ms: float = 0.0
    statistical_cost: float = 0.0
    memory_gb: float = 0.0
    config: Path | None = None
    json: bool = False


def main(words: Sequence[str]) -> int:
    """Plan."""
    name, recipe, rest = recipe_of(words, "plan")
    record, rest = with_file(recipe.record, rest)
    about = f"Say what a recipe would cost, and which method to choose.\n{EXAMPLES}"
    said = parse(Words, rest, prog=f"plan {name}", about=about, default=Words(record))
    record, setting = check(said.record), setting_of(said)
    plan = outline(record, record.seed, partial(first_round, record))
    told = forecasts(plan, setting)
    steps = max(one.effort.steps for one in told.found.values())
    num = len(plan.rows)
    given = said.statistical_cost
    cost = (given, given) if given else statistical(num, steps)
    choice = decide(told.found, steps, cost, said.memory_gb * 1e9)
    if not record.pace.waits and said.json:
        warn(PACE.format(record.pace.kind))
    if said.json:
        say_json(plain(told, choice, num, steps, setting))
    else:
        show(said, told, choice, num, steps)
    return 0


def first_round(record: Federation, places: Places) -> Sequence[int]:
    """Name those who take part in the first round."""
    return chosen(record.turnout, len(places.train), places.anchors)(0, record.seed)


def setting_of(said: Words) -> Setting:
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
class Told:
    """What can be said of the methods, by name.

    Args:
        found: methods of which all is known.
        sent: those of which only a run can tell how long workers work: what a round sends.
        silent: why of the others, and of those, nothing more is known.
    """

    found: Mapping[str, Forecast]
    sent: Mapping[str, Traffic]
    silent: Mapping[str, str]


def forecasts(plan: Outline, setting: Setting) -> Told:
    """Forecast every method that can be, and say of the others why not."""
    found, sent, silent = {}, {}, {}
    for name in dict.fromkeys((*baselines(plan), *plan.record.methods)):
        try:
            found[name] = forecast(name, plan, setting)
        except ValueError as error:
            silent[name] = str(error)
            traffic = exchange(name, plan, setting)
            if traffic is not None:
                sent[name] = traffic
    for name in ("local_sgd", "data_parallel"):
        if name in silent:  # without them there is nothing to compare with
            raise UsageError(f"this recipe cannot be planned: {name}: {silent[name]}")
    return Told(found, sent, silent)


def plain(told: Told, choice: Choice, num: int, steps: int, setting: Setting) -> dict[str, Any]:
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


def show(said: Words, told: Told, choice: Choice, num: int, steps: int) -> None:
    """Print a plan."""
    say(
        f"{num} workers, {said.link_mbit:g} Mbit/s, {said.latency_ms:g} ms, layout {said.layout}, "
        f"device speed {said.flops}; per worker, the largest; bytes of one round\n"
    )
    rows = [row(one, steps) for one in told.found.values()]
    rows += [blank(name, one) for name, one in told.sent.items()]
    say(columns([[*HEADS, f"{steps} steps s"], *rows]))
    for name, reason in told.silent.items():
        planned = "bytes alone" if name in told.sent else "not planned"
        say(f"{name}: {planned}: {reason}")
    pace = said.record.pace
    if not pace.waits:
        say(PACE.format(pace.kind))
    moderate, late = choice.statistical_cost
    source = "as you said" if said.statistical_cost else whence(choice)
    say(
        f"\nsystem gain {choice.system_gain:.2f}; statistical cost {moderate:.3g} to a moderate "
        f"accuracy, {late:.3g} near the end ({source})"
    )
    say(f"choose {choice.method}: {choice.reason}")


def row(one: Forecast, steps: int) -> list[str]:
    """Write a forecast as words."""
    effort = one.effort
    return [
        one.method,
        str(effort.steps),
        f"{effort.step_flops / 1e6:.4g}",
        *sizes(one.traffic),
        f"{one.memory_bytes / 1e6:.4g}",
        f"{one.round_s:.3g}",
        f"{one.seconds(steps):.3g}",
    ]


def blank(name: str, sent: Traffic) -> list[str]:
    """Write what is known of a method of which only a run can tell how long workers work."""
    return [name, "-", "-", *sizes(sent), "-", "-", "-"]


def sizes(sent: Traffic) -> list[str]:
    """Write bytes out, in and of all as megabytes."""
    return [f"{size / 1e6:.4g}" for size in (sent.out, sent.into, sent.total)]
