"""``moiety plan``: what a recipe would cost, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from moiety.ops.cost import Link, statistical
from moiety.recipes.choice import Choice, decide, whence
from moiety.recipes.costs import BASELINES, Forecast, Outline, Setting, forecast, outline
from moiety.recipes.record import Federation
from moiety.run.commands.common import check, parse, recipe_of, with_file
from moiety.run.errors import UsageError
from moiety.run.say import columns, say, say_json, warn

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
    plan = outline(record, record.seed)
    found, silent = forecasts(plan, setting)
    steps = max(one.effort.steps for one in found.values())
    num = len(plan.rows)
    given = said.statistical_cost
    cost = (given, given) if given else statistical(num)
    choice = decide(found, steps, cost, said.memory_gb * 1e9)
    if not record.pace.waits:
        tell = warn if said.json else say
        tell(f"pace {record.pace.kind!r} is not planned: rounds as if the server waited for all\n")
    if said.json:
        say_json(plain(found, silent, choice, num, steps, setting))
    else:
        show(said, found, silent, choice, num, steps)
    return 0


def setting_of(said: Words) -> Setting:
    """Read the setting.

    Raises:
        UsageError: for numbers that cannot be meant.
    """
    if said.statistical_cost < 0 or said.memory_gb < 0:
        raise UsageError(f"{said.statistical_cost=} and {said.memory_gb=} must not be below 0")
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


def forecasts(plan: Outline, setting: Setting) -> tuple[dict[str, Forecast], dict[str, str]]:
    """Forecast every method that can be, and say of the others why not."""
    found, silent = {}, {}
    for name in dict.fromkeys((*BASELINES, *plan.record.methods)):
        try:
            found[name] = forecast(name, plan, setting)
        except ValueError as error:
            silent[name] = str(error)
    for name in ("local_sgd", "data_parallel"):
        if name in silent:  # without them there is nothing to compare with
            raise UsageError(f"this recipe cannot be planned: {name}: {silent[name]}")
    return found, silent


def plain(
    found: Mapping[str, Forecast],
    silent: Mapping[str, str],
    choice: Choice,
    num: int,
    steps: int,
    setting: Setting,
) -> dict[str, Any]:
    """Write a plan as plain data."""
    methods = {
        name: {**asdict(one), "round_s": one.round_s, "steps_s": one.seconds(steps)}
        for name, one in found.items()
    }
    return {
        "workers": num,
        "steps": steps,
        "setting": asdict(setting),
        "methods": methods,
        "unknown": dict(silent),
        "choice": asdict(choice),
    }


HEADS = ("method", "steps", "MFLOP/step", "out MB", "in MB", "all MB", "memory MB", "round s")


def show(
    said: Words,
    found: Mapping[str, Forecast],
    silent: Mapping[str, str],
    choice: Choice,
    num: int,
    steps: int,
) -> None:
    """Print a plan."""
    say(
        f"{num} workers, {said.link_mbit:g} Mbit/s, {said.latency_ms:g} ms, layout {said.layout}, "
        f"device speed {said.flops}; per worker, the largest; bytes of one round\n"
    )
    rows = [[*HEADS, f"{steps} steps s"], *(row(one, steps) for one in found.values())]
    say(columns(rows))
    for name, reason in silent.items():
        say(f"{name}: not planned: {reason}")
    moderate, late = choice.statistical_cost
    source = "as you said" if said.statistical_cost else whence(choice)
    say(
        f"\nsystem gain {choice.system_gain:.2f}; statistical cost {moderate:.3g} to a moderate "
        f"accuracy, {late:.3g} near the end ({source})"
    )
    say(f"choose {choice.method}: {choice.reason}")


def row(one: Forecast, steps: int) -> list[str]:
    """Write a forecast as words."""
    effort, traffic = one.effort, one.traffic
    sizes = (traffic.out, traffic.into, traffic.total, one.memory_bytes)
    return [
        one.method,
        str(effort.steps),
        f"{effort.step_flops / 1e6:.4g}",
        *(f"{size / 1e6:.4g}" for size in sizes),
        f"{one.round_s:.3g}",
        f"{one.seconds(steps):.3g}",
    ]
