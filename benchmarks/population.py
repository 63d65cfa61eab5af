"""Seconds and peak memory of a round by registered workers: ``... population WORKERS``.

Runs in a process of its own, because peak memory only grows.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import torch

from benchmarks.work import LOCAL
from moiety.core.rows import TableRows
from moiety.core.streams import stream
from moiety.engine.pool import Pool
from moiety.methods.fedavg import fedavg
from moiety.methods.task import Task
from moiety.models.mlp import mlp
from moiety.rounds.cohort import UniformCohort
from moiety.rounds.synchronous import initialise_state, play_round

ROUNDS = 12


def main() -> None:
    """Play rounds of 10 workers out of so many and print the figures."""
    population = int(sys.argv[1])
    rng = torch.Generator().manual_seed(0)
    table = {
        "x": torch.randn(60_000, 784, generator=rng),
        "y": torch.randint(10, (60_000,), generator=rng),
    }

    def open_rows(worker: int) -> TableRows:
        return TableRows(table, torch.randint(60_000, (600,), generator=stream(0, worker, "rows")))

    method = fedavg(Task(mlp((784, 200, 200, 10), rng), LOCAL))
    cohort, engine, state = (
        UniformCohort(population, 10),
        Pool(open_rows, processes=1),
        initialise_state(method),
    )
    seconds = []
    for index in range(ROUNDS):
        start = time.perf_counter()
        state = play_round(method, engine, state, cohort(index, 0), 0)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds[2:], "peak_mib": peak}))


if __name__ == "__main__":
    main()
