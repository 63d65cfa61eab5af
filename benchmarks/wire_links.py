"""Seconds of rounds over slow links, for ``benchmarks.wire``; as a module, one rank of them.

Four ranks, each in a network namespace of its own behind a link that ``tc`` shapes both ways, play
rounds of every method and chain with ``--engine collective``. Every rank hears the codes of all
replies (``docs/wire.md``), so what crosses a link is not what a server and its workers exchange.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from benchmarks.ist_parts.network import network, ranks
from moiety.engine.collective import Collective
from moiety.engine.ranks import Ranks, join_ranks, leave_ranks
from moiety.recipes.build import build_run
from moiety.recipes.fields import override_fields
from moiety.recipes.record import Federation
from moiety.rounds.asynchronous import Concurrency
from moiety.rounds.staged import stage_rounds
from moiety.rounds.synchronous import initialise_state
from moiety.run.play import make_run_cohort
from moiety.run.same_ranks import scatter_pieces

RATES: Mapping[str, str] = {"10mbit": "16kb", "100mbit": "64kb"}
"""Rate -> bytes that pass at once: few, or a code would pass as if there were no link."""

WORKERS, FIRST, TIMED = 4, 2, 5
"""Ranks; rounds that are not timed, for buckets to empty; and rounds that are."""


def can_shape_links() -> bool:
    """Say whether links can be made here: by root, who has ip and tc."""
    return os.geteuid() == 0 and all(shutil.which(one) for one in ("ip", "tc"))


def time_links(jobs: Mapping[str, Mapping[str, object]], rate: str) -> dict[str, float]:
    """Give the seconds of a round of each job, a record's fields, over links of a rate."""
    with network(WORKERS, rate, RATES[rate]) as prefixes:
        return ranks(jobs, prefixes, "10.77.0.1", "eth0", "benchmarks.wire_links")


def time_rounds(world: Ranks, fields: Mapping[str, object]) -> float:
    """Time rounds of a run: the median, of the slowest rank."""
    record = override_fields(Federation(), fields)
    built = build_run(record, record.methods[0], record.seed)
    engine, stages = scatter_pieces(Collective(built.open, ranks=world), built.stages)
    cohort, limit = make_run_cohort(record, built), Concurrency(built.num_seen, built.cohort_size)
    played = stage_rounds(stages, engine, cohort, record.seed, record.schedule, limit)
    state, seconds = initialise_state(built.method), list[float]()
    for _ in range(FIRST + TIMED):
        world.gather(None)
        begun = time.perf_counter()
        state, _ = played.advance(state)
        seconds.append(max(world.gather(time.perf_counter() - begun)))
    return statistics.median(seconds[FIRST:])


def main(words: Sequence[str]) -> None:
    """Be one rank: time what a file of jobs says; rank 0 writes what came."""
    torch.set_num_threads(1)
    world = join_ranks()
    jobs = json.loads(Path(words[0]).read_text())
    told = {key: time_rounds(world, fields) for key, fields in jobs.items()}
    if world.leads:
        Path(words[1]).write_text(json.dumps(told))
    world.gather(None)
    leave_ranks(world)


if __name__ == "__main__":
    main(sys.argv[1:])
