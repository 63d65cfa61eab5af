"""Gate 2, second half: side by side, machines take a tenth of the time, and lose nothing."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.mixtures_parts.data import like_p
from benchmarks.mixtures_parts.gate import Gate, Section, not_run
from moiety.estimators import DistributedMixtureOfExpertsRegressor, MixtureOfExpertsRegressor


def large(rows: int, machines: int) -> dict[str, float]:
    """Fit one large design globally and on machines, each on one core."""
    x, y, _ = like_p(rows + 100_000, seed=1)
    train, test = slice(0, rows), slice(rows, None)
    begun, begun_cpu = time.perf_counter(), time.process_time()
    whole = MixtureOfExpertsRegressor(4, random_state=0).fit(x[train], y[train])
    seconds, cpu_s = time.perf_counter() - begun, time.process_time() - begun_cpu
    parts = np.array_split(np.arange(rows), machines)
    model = DistributedMixtureOfExpertsRegressor(4, random_state=0)
    model.fit([(x[part], y[part]) for part in parts])
    return {
        "rows": rows,
        "machines": machines,
        "global_s": seconds,
        "global_cpu_s": cpu_s,
        "global_steps": whole.n_iter_,
        "longest_fit_s": model.ledger_.longest_fit_s,
        "reduction_s": model.ledger_.reduction_s,
        "learning_s": model.ledger_.learning_s,
        "longest_fit_cpu_s": model.ledger_.longest_fit_cpu_s,
        "reduction_cpu_s": model.ledger_.reduction_cpu_s,
        "learning_cpu_s": model.ledger_.learning_cpu_s,
        "local_steps": model.n_iter_,
        "global_test": whole.log_likelihood(x[test], y[test]),
        "reduced_test": model.log_likelihood(x[test], y[test]),
    }


def run(*, quick: bool) -> Section:
    """Run the section."""
    asked = (
        "learning time (processor) <= 1/10 of the global fit's, "
        "held-out log-likelihood within 0.1 %"
    )
    name = "2 N = 10^6, d = 20, 16 machines"
    if quick:
        return Section([not_run(name, asked, "quick")], {})
    big = large(1_000_000, 16)
    return Section([judged(name, asked, big)], dict(big))


def judged(name: str, asked: str, big: dict[str, float]) -> Gate:
    """Judge by the time of the processor, and show the clock's beside it."""
    ratio = big["learning_cpu_s"] / big["global_cpu_s"]
    clock = big["learning_s"] / big["global_s"]
    loss = 1 - big["global_test"] / big["reduced_test"]
    shown = (
        f"{ratio:.4f} of processor time ({big['learning_cpu_s']:.2f} s / "
        f"{big['global_cpu_s']:.2f} s of one core; by the clock of the busy machine {clock:.4f}, "
        f"{big['learning_s']:.2f} s / {big['global_s']:.2f} s), {100 * loss:.4f} % below"
    )
    return Gate(name, asked, shown, ratio <= 0.1 and loss <= 0.001)
