"""Who is let in, and what a node costs that stands still."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path
from typing import Any

from benchmarks.federation_parts.deployment import (
    NO_KEY,
    Deployment,
    count_rounds,
    find_flower,
    has_ended,
    wait_for,
    write_app,
)
from moiety.core.ledger import read_ledger
from moiety.federation.certs import write_certificates

NAMES = ("north", "east")
TURNED_AWAY = {
    "no key": "SuperNode authentication is enabled",
    "wrong key": "Failed to activate SuperNode",
    "wrong certificate": "CERTIFICATE_VERIFY_FAILED",
}
"""Who is turned away, and what its log says."""

TOLD = ("ApiError:2001", "ApiError:2004")
"""What the link's log says, of those that come as far as the link."""


def knock(folder: Path) -> dict[str, Any]:
    """Let a node in, and turn three away: without a key, with a wrong one, with a wrong root.

    Returns:
        For each what came: ``in``, or ``away`` where it ended and its log says why.
    """
    shutil.rmtree(folder, ignore_errors=True)
    keys, other = folder / "keys", folder / "other"
    write_certificates(keys, [], [*NAMES, "stranger"], 2)
    write_certificates(other, [], ["nobody"], 2)
    link = Deployment(folder, find_flower(), keys)
    try:
        link.start_link()
        for name in NAMES:
            link.register(name)
        link.start_node("north")
        link.start_node("wrong key", key=keys / "stranger.key")
        link.start_node("wrong certificate", key=keys / "east.key", root=other / "ca.crt")
        link.start_node("no key", key=NO_KEY)
        wait_for(lambda: "SuperNode ID" in link.read_log("north"), "the first node is let in")
        found = {"north": "in"}
        for name, reason in TURNED_AWAY.items():
            wait_for(lambda name=name: link.running[name].poll() is not None, f"{name} is away")
            found[name] = "away" if reason in link.read_log(name) else link.read_log(name)
        said = link.read_log("link")
        return {**found, "link": "says so" if all(one in said for one in TOLD) else said}
    finally:
        link.close()


def stand_still(folder: Path, rounds: int = 5) -> dict[str, Any]:
    """Stop a node in its second round, without killing it, and count what that cost.

    Returns:
        How the run ended, in which rounds the node was missing, and the seconds of each round.
    """
    shutil.rmtree(folder, ignore_errors=True)
    names = ("north", "east", "south")
    link = Deployment(folder, find_flower())
    run = write_app(folder / "app", names, "--method", "fedavg", "--rounds", str(rounds))
    try:
        link.start_link()
        for name in names:
            link.start_node(name)
        link.submit(folder / "app")
        wait_for(lambda: count_rounds(run) >= 1, "a round is played")
        link.signal("south", signal.SIGSTOP)
        begun = time.monotonic()
        wait_for(lambda: has_ended(run), "the run ends")
        seconds = time.monotonic() - begun
    finally:
        link.close()
    ledger = read_ledger(run / "ledger.jsonl")
    late = [[one.reason for one in each.refused] for each in ledger.rounds]
    return {
        "status": ledger.end.status if ledger.end else "none",
        "missing": [number for number, reasons in enumerate(late) if reasons],
        "reasons": sorted({one for reasons in late for one in reasons}),
        "round_s": [each.seconds for each in ledger.rounds],
        "seconds": seconds,
    }
