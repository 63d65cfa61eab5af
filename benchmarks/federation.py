"""A federation that does not die: deployments of Flower on this machine, killed and besieged.

    python -m benchmarks.federation [--quick] [--check] [--json FILE]

It needs Flower beside moiety, or ``MOIETY_FLOWER`` names a Python that has both. Parts: the storm
(a node is killed in every round and another comes back, the server is killed twice, two nodes are
hostile), doors (nodes without a key, with a wrong key, with a wrong certificate), a node that
stands still, and the bytes of methods beside those of one machine and of Flower's simulation (which
needs ray). A full run that is stopped goes on with the parts that are left. A quick run plays a
small storm alone.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.federation_parts.agree import METHODS, compare, simulate
from benchmarks.federation_parts.doors import knock, stand_still
from benchmarks.federation_parts.storm import LONG, QUICK, Storm, play_calm, play_storm
from benchmarks.gates import Book, Gate, machine, not_run, options, report

WAITING = {
    "quorum": 0.5, "patience": 1.05, "least_s": 2.0, "most_s": 300.0, "join_s": 60.0, "poll_s": 0.2
}  # fmt: skip
NODES = [f"node{number}" for number in range(8)]
ROUNDS = 2
"""Rounds of a method whose bytes are compared."""

LEAST_GOODPUT, MOST_LOSS = 0.88, 0.01
GOOD = f"at least {LEAST_GOODPUT:.0%}"
LONG_NAME = f"seconds of accepted work, {LONG.rounds} rounds of {LONG.steps} steps"


def judge_storm(storm: Storm, told: Mapping[str, Any], calm: float, *, quick: bool) -> list[Gate]:
    """Ask what a storm may cost."""
    kinds = len(told["reasons"])
    lost = calm - told["accuracy"]
    sent, merged = told["hostile_sent"], told["hostile_merged"]
    back = told["back_s"]
    gates = [
        Gate(
            f"a storm of {storm.rounds} rounds", "ends with all rounds",
            f"{told['status']}, {told['rounds']} rounds, {told['killed']} kills of nodes, "
            f"{told['server_kills']} of the server",
            told["status"] == "finished" and told["rounds"] == storm.rounds
            and told["server_kills"] == len(storm.server_kills),
        ),
        Gate(
            "replies of hostile nodes that were merged", "0",
            f"{merged}; {told['hostile_refused']} refused, {kinds} reasons, of {sent} asked",
            merged == 0 and told["hostile_refused"] >= sent,
        ),
        Gate("seconds until a killed server is back", "-", f"{max(back, default=0):.1f} at most"),
        Gate("workers merged in a round", "-", f"{told['workers']:.1f} of {storm.nodes}"),
    ]  # fmt: skip
    asked = (f"at most {MOST_LOSS:.0%} less", GOOD)
    words = f"{told['accuracy']:.1%}, undisturbed {calm:.1%}"
    good = f"{told['goodput']:.1%} of {told['seconds']:.0f} s"
    reached = (None, None) if quick else (lost <= MOST_LOSS, told["goodput"] >= LEAST_GOODPUT)
    return [
        *gates,
        Gate("accuracy after the storm", "-" if quick else asked[0], words, reached[0]),
        Gate("seconds of accepted work", "-" if quick else asked[1], good, reached[1]),
    ]


def judge_long_storm(told: Mapping[str, Any]) -> Gate:
    """Ask for goodput where jobs are long."""
    good = f"{told['goodput']:.1%} of {told['seconds']:.0f} s, {told['hostile_merged']} hostile"
    ok = told["rounds"] == LONG.rounds and not told["hostile_merged"]
    return Gate(LONG_NAME, GOOD, good, ok and told["goodput"] >= LEAST_GOODPUT)


def judge_doors(told: Mapping[str, str]) -> list[Gate]:
    """Ask that one be let in and the others turned away."""
    asked = {"north": "in", "link": "says so"}
    return [
        Gate(f"node with {name}" if name not in asked else name, asked.get(name, "away"),
             what[:40], what == asked.get(name, "away"))
        for name, what in told.items()
    ]  # fmt: skip


def judge_still(told: Mapping[str, Any]) -> Gate:
    """Ask that a node that stands still cost one grace time, and not the run."""
    first, *later = told["missing"] or [0]
    waits = [told["round_s"][number] for number in later]
    ok = told["status"] == "finished" and all(s < told["round_s"][first] for s in waits)
    seconds = ", ".join(f"{one:.1f}" for one in told["round_s"])
    return Gate("a node that stands still", "one grace time", f"rounds of {seconds} s", ok)


def judge_bytes(told: Mapping[str, Mapping[str, str]], simulated: str) -> list[Gate]:
    """Ask for the same bytes."""
    return [
        Gate(
            f"bytes of {method}: {len(NODES)} nodes with TLS and keys; simulation", one["serial"],
            f"{one['flower']}; {simulated}", one["serial"] == one["flower"] == simulated,
        )
        for method, one in told.items()
    ]  # fmt: skip


def play_parts(book: Book, folder: Path, *, quick: bool) -> list[Gate]:
    """Play the parts that are left, the longest one first; of a closed book, judge what it has."""
    gates = play_weather(book, folder, quick=quick)
    if quick:
        return gates
    told = book.several({"long storm": partial(play_storm, LONG, folder / "l", WAITING)})
    gates += [judge_long_storm(one) for one in told] or [not_run(LONG_NAME, GOOD, "not kept")]
    for told in book.several({"doors": lambda: knock(folder / "doors")}):
        gates += judge_doors(told)
    for told in book.several({"still": lambda: stand_still(folder / "still")}):
        gates.append(judge_still(told))
    for method in METHODS:
        takes = {
            f"bytes of {method}": partial(compare, folder / "b", [method], NODES, ROUNDS),
            f"simulation of {method}": partial(simulate, folder / "s", method, NODES, ROUNDS),
        }
        found = book.several(takes)
        gates += judge_bytes(*found) if len(found) == len(takes) else []
    return gates


def play_weather(book: Book, folder: Path, *, quick: bool) -> list[Gate]:
    """Play the storm, and the same run undisturbed."""
    storm, name = QUICK if quick else Storm(), "quick storm" if quick else "storm"
    takes = {
        name: partial(play_storm, storm, folder / "storm", WAITING),
        f"{name}, undisturbed": partial(play_calm, storm, folder / "calm"),
    }
    found = book.several(takes)
    if len(found) < len(takes):
        return [not_run(f"a storm of {storm.rounds} rounds", "ends", "not kept")]
    return judge_storm(storm, *found, quick=quick)


def main(arguments: Sequence[str] | None = None) -> int:
    """Play, print, keep."""
    told = options(__doc__ or "", arguments)
    book = Book.open(told.json, closed=told.kept)
    with tempfile.TemporaryDirectory(prefix="moiety-federation-") as place:
        gates = play_parts(book, Path(place), quick=told.quick)
    return report(gates, book, told, machine())


if __name__ == "__main__":
    sys.exit(main())
