"""Gate 2, second half: side by side, machines take a tenth of the time, and lose nothing.

Every fit runs alone on one thread. Global and local fits take turns, several times over, since
other work on the same processor would else fall on one of them: of each machine's times, of the
reduction's and of the global fit's the median is taken, and then the longest of the machines'.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from benchmarks.mixtures_parts.data import like_p
from benchmarks.mixtures_parts.gate import Gate, Section, not_run
from moiety.estimators import DistributedMixtureOfExpertsRegressor, MixtureOfExpertsRegressor

REPEATS = 5
NAME = "2 N = 10^6, d = 20, 16 machines"
ASKED = "learning time (clock) <= 1/10 of the global fit's, held-out log-likelihood within 0.1 %"


@dataclass(frozen=True)
class Turn:
    """Seconds by the clock and of the processor: the global fit, every machine, the reduction."""

    whole: tuple[float, float]
    local: tuple[list[float], list[float]]
    reduction: tuple[float, float]


def turn(
    rows: tuple[np.ndarray, np.ndarray], machines: int
) -> tuple[Turn, MixtureOfExpertsRegressor, DistributedMixtureOfExpertsRegressor]:
    """Fit globally, then on machines."""
    x, y = rows
    begun, begun_cpu = time.perf_counter(), time.process_time()
    whole = MixtureOfExpertsRegressor(4, random_state=0).fit(x, y)
    spent = time.perf_counter() - begun, time.process_time() - begun_cpu
    model = DistributedMixtureOfExpertsRegressor(4, random_state=0)
    model.fit([(x[part], y[part]) for part in np.array_split(np.arange(len(y)), machines)])
    ledger = model.ledger_
    local = ledger.fit_s, ledger.fit_cpu_s
    done = Turn(
        spent, (list(local[0]), list(local[1])), (ledger.reduction_s, ledger.reduction_cpu_s)
    )
    return done, whole, model


def medians(turns: list[Turn]) -> dict[str, float]:
    """Take medians over the turns, and then the longest of the machines' medians."""
    found: dict[str, float] = {}
    for at, unit in enumerate(("s", "cpu_s")):
        longest = float(np.median([one.local[at] for one in turns], 0).max())
        reduction = float(np.median([one.reduction[at] for one in turns]))
        whole = float(np.median([one.whole[at] for one in turns]))
        found |= {
            f"global_{unit}": whole,
            f"longest_fit_{unit}": longest,
            f"reduction_{unit}": reduction,
            f"learning_{unit}": longest + reduction,
            f"ratio_{unit}": (longest + reduction) / whole,
        }
    return found


def single(one: Turn) -> float:
    """Give the ratio of one turn by the clock, with the longest fit of that turn."""
    return (max(one.local[0]) + one.reduction[0]) / one.whole[0]


def large(rows: int, machines: int, repeats: int = REPEATS) -> dict[str, float]:
    """Fit one large design globally and on machines, in turns."""
    x, y, _ = like_p(rows + 100_000, seed=1)
    test_x, test_y = x[rows:], y[rows:]
    turns = []
    for _ in range(repeats):
        done, whole, model = turn((x[:rows], y[:rows]), machines)
        turns.append(done)
    alone = [single(one) for one in turns]
    return {
        "rows": rows,
        "machines": machines,
        "repeats": repeats,
        **medians(turns),
        "least_single_ratio": min(alone),
        "greatest_single_ratio": max(alone),
        "global_steps": whole.n_iter_,
        "local_steps": model.n_iter_,
        "global_test": whole.log_likelihood(test_x, test_y),
        "reduced_test": model.log_likelihood(test_x, test_y),
    }


def run(*, quick: bool) -> Section:
    """Run the section."""
    if quick:
        return Section([not_run(NAME, ASKED, "quick")], {})
    big = large(1_000_000, 16)
    return Section([judged(big)], dict(big))


def judged(big: dict[str, float]) -> Gate:
    """Judge by the clock, and show the time of the processor beside it."""
    loss = 1 - big["global_test"] / big["reduced_test"]
    shown = (
        f"{big['ratio_s']:.4f} by the clock ({big['learning_s']:.2f} s / {big['global_s']:.2f} s, "
        f"medians of {big['repeats']:.0f} turns on one thread; single turns "
        f"{big['least_single_ratio']:.4f} to {big['greatest_single_ratio']:.4f}); "
        f"{big['ratio_cpu_s']:.4f} of processor time; {100 * loss:.4f} % below"
    )
    return Gate(NAME, ASKED, shown, big["ratio_s"] <= 0.1 and loss <= 0.001)
