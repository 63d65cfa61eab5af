"""``moiety profile``: play a few rounds of a recipe and say where their seconds go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from moiety.core.errors import UsageError
from moiety.core.ledger import Round
from moiety.engine.agreement import flatten_fields
from moiety.recipes.fields import to_plain
from moiety.recipes.record import Federation
from moiety.rounds.meter import SECTIONS
from moiety.run.commands.common import check_record
from moiety.run.commands.recipe import parse_recipe
from moiety.run.commands.words import BESIDE
from moiety.run.echo import echo, echo_json
from moiety.run.play import measure_rounds
from moiety.run.same_ranks import check_rank_engine
from moiety.run.spec import resolve_run
from moiety.run.together import Whereabouts, play_together

ABOUT = """Play a few rounds and say where their seconds go; nothing is written.

examples:
  moiety profile quickstart --methods ddome
  moiety profile ist-digits --engine pool --count 5
"""


SLOWEST = 5
"""Workers that are named."""


@dataclass(frozen=True)
class ProfileArguments:
    """What can be said behind ``moiety profile RECIPE``.

    Args:
        record: the recipe's fields; the first method is played.
        count: of rounds, after a first one that is not counted.
        config: a TOML file of fields (or the config.json of a run), applied before the others.
        json: print the rounds as JSON.
    """

    record: Federation = field(default_factory=Federation, metadata=BESIDE)
    count: int = 3
    config: Path | None = None
    json: bool = False


def do_profile(words: Sequence[str]) -> int:
    """Profile."""
    name, said = parse_recipe(words, "profile", ABOUT, ProfileArguments)
    record = check_record(said.record)
    if said.count < 1:
        raise UsageError(f"--count {said.count} rounds tell nothing; choose at least 1")
    about = {"command": "profile", "recipe": name, **flatten_fields(to_plain(record))}
    with play_together({**about, "count": said.count}, Whereabouts()) as ranks:
        check_rank_engine(record, ranks)
        spec, built = resolve_run(name, record, record.methods[0], record.seed)
        played = measure_rounds(spec, built, ranks, said.count + 1)
        rounds = played[1:] or played
        if ranks.leads and said.json:
            echo_json({"rounds": [asdict(entry) for entry in rounds]})
        elif ranks.leads:
            echo("\n".join([f"{spec.method}, engine {spec.record.engine}", *tabulate(rounds)]))
    return 0


def tabulate(rounds: Sequence[Round]) -> list[str]:
    """Write the seconds of rounds as a table, with their shares, then the slowest workers."""
    names = [*(name.removesuffix("_s") for name in SECTIONS), "other", "seconds", "sent"]
    lines = ["", "round " + "".join(f"{name:>12}" for name in names)]
    for entry in rounds:
        spent = [getattr(entry, name) for name in SECTIONS]
        spent += [max(0.0, entry.seconds - sum(spent)), entry.seconds]
        cells = [f"{s:12.4f}" for s in spent]
        lines.append(f"{entry.round:5} " + "".join(cells) + f"{entry.sent_bytes:12,}")
    total = sum(entry.seconds for entry in rounds)
    shares = [sum(getattr(entry, name) for entry in rounds) / total for name in SECTIONS]
    shares += [max(0.0, 1 - sum(shares)), 1.0]
    lines.append("share " + "".join(f"{share:12.1%}" for share in shares))
    return [*lines, "", *describe_slowest(rounds)]


def describe_slowest(rounds: Sequence[Round]) -> list[str]:
    """Name the workers that took longest for a job, where the engine knows."""
    worst: dict[int, float] = {}
    for work in (work for entry in rounds for work in entry.workers):
        if not math.isnan(work.work_s):
            worst[work.worker] = max(work.work_s, worst.get(work.worker, 0.0))
    if not worst:
        return ["workers are stacked, and have no seconds of their own"]
    slowest = sorted(worst, key=lambda worker: -worst[worker])[:SLOWEST]
    told = ", ".join(f"{worker} ({worst[worker]:.4f} s)" for worker in slowest)
    return [f"slowest workers (longest job): {told}"]
