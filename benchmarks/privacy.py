"""Epsilon against accuracy: ``python -m benchmarks.privacy [--quick] [--check] [--json FILE]``.

Digits, 100 workers of 13 or 14 rows with uneven labels, all in each of 20 rounds: FedAvg, and two
methods whose parts overlap, with several noises and without privacy, three seeds. Then DP-SGD at
10 workers of 139 or 140 rows, where the unit is a row and nobody is trusted. Private runs have one
clip and one rate; what trains without privacy, and is not clipped, has the best of several rates
by the test rows themselves. Noise is drawn from the seed, so that a table can be made again.
A quick run plays one seed, three rounds, one noise and none; ``--page`` writes the table into
docs/results/privacy.md.
"""

from __future__ import annotations

import itertools
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from benchmarks.ddome_page import RESULTS, fill
from benchmarks.gates import Book, Gate, not_run, options, report
from moiety.core.rows import TableRows
from moiety.engine.serial import Serial
from moiety.methods import METHODS
from moiety.methods.task import LocalTraining, Task
from moiety.models.mlp import mlp
from moiety.privacy.accountant import spend_gaussian
from moiety.privacy.config import PrivacyConfig, apply_privacy
from moiety.privacy.rows import apply_row_privacy
from moiety.rounds.cohort import FixedCohort
from moiety.rounds.private import PrivateRounds, Spending
from moiety.rounds.synchronous import SynchronousRounds, initialise_state

DELTA, CLIP, ROUNDS, EPOCHS, SEEDS, TEST = 1e-5, 1.0, 20, 2, (0, 1, 2), 400
RATE, FREE_RATES = 0.5, (0.5, 0.2, 0.1, 0.05)
"""Of private runs, and of those without privacy."""

NOISES = (0.5, 1, 2, 4, 8, 16)
"""Standard deviations over what one unit moves a sum."""

PAGE = RESULTS / "privacy.md"


@dataclass(frozen=True)
class Setting:
    """What is played.

    Args:
        method: its name.
        unit: ``worker`` (noise at the server) or ``row`` (noise at the workers).
        workers: how many.
    """

    method: str
    unit: str
    workers: int

    @property
    def name(self) -> str:
        return f"{self.method}, {self.unit}"


SETTINGS = (
    Setting("fedavg", "worker", 100),
    Setting("fjord", "worker", 100),
    Setting("heterofl", "worker", 100),
    Setting("fedavg", "row", 10),
)


@dataclass(frozen=True)
class Row:
    """A row of the table; accuracies in percent, one a seed; no noise is no privacy."""

    setting: Setting
    noise: float
    rate: float
    epsilon: float
    accuracy: Sequence[float]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.accuracy)

    def write(self) -> str:
        """Write as a line of Markdown."""
        spread = f" ± {statistics.stdev(self.accuracy):.1f}" if len(self.accuracy) > 1 else ""
        noise = f"{self.noise:g}" if self.noise else "no privacy"
        spent = f"{self.epsilon:.1f}" if self.noise else "none promised"
        cells = (self.setting.method, self.setting.unit, noise, spent, f"{self.rate:g}")
        return f"| {' | '.join(cells)} | {self.mean:.1f}{spread} |"


def read_digits(workers: int, seed: int) -> tuple[dict[int, TableRows], TableRows]:
    """Give the rows of each worker, half of them sorted by label, and test rows."""
    from sklearn.datasets import load_digits

    x, y = (torch.from_numpy(a) for a in load_digits(return_X_y=True))
    table = {"x": (x / 16).float(), "y": y.long()}
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    test, train = order[:TEST], order[TEST:]
    half = train[: len(train) // 2][y[train[: len(train) // 2]].argsort(stable=True)]
    rest = train[len(train) // 2 :]
    pairs = zip(half.tensor_split(workers), rest.tensor_split(workers), strict=True)
    hands = [torch.cat(pair) for pair in pairs]
    return {w: TableRows(table, hand) for w, hand in enumerate(hands)}, TableRows(table, test)


def play(setting: Setting, noise: float, rate: float, seed: int, rounds: int) -> float:
    """Play a run; give the accuracy on test rows in percent."""
    rows, test = read_digits(setting.workers, seed)
    model = mlp((64, 32, 10), torch.Generator().manual_seed(seed))
    local = LocalTraining(lr=rate, batch=16, epochs=EPOCHS)
    task = Task(model, local, workers=setting.workers, classes=10)
    method = METHODS[setting.method].make(task)
    cohort, engine = FixedCohort(tuple(range(setting.workers))), Serial(rows.__getitem__)
    plain = SynchronousRounds(method, engine, cohort, seed)
    state, played = initialise_state(method), plain
    if noise:
        config = make_config(setting, noise)
        private = apply_row_privacy(apply_privacy(method, config), config)
        key = seed.to_bytes(32, "little")
        played = PrivateRounds(private, plain, Spending(), noise, key=key, row_key=key)
    for _ in range(rounds):
        state, _ = played.advance(state)
    batch = test.take(torch.arange(test.size))
    answer = model.logits(state.params, {"x": batch["x"]}, {}).argmax(-1)
    return 100 * float((answer == batch["y"]).double().mean())


def make_config(setting: Setting, noise: float) -> PrivacyConfig:
    """Say what is promised to whom."""
    if setting.unit == "row":
        return PrivacyConfig(row_clip=CLIP, row_noise=noise, delta=DELTA)
    return PrivacyConfig(clip=CLIP, noise=noise, delta=DELTA)


def spend(setting: Setting, noise: float, rounds: int) -> float:
    """Say what all rounds cost; without noise, without end."""
    releases = rounds * (EPOCHS if setting.unit == "row" else 1)
    return spend_gaussian(noise, releases, DELTA) if noise else float("inf")


def measure(book: Book, seeds: Sequence[int], rounds: int, noises: Sequence[float]) -> list[Row]:
    """Play all settings, without privacy at the rate that turns out best."""
    rows = list[Row]()
    for setting in SETTINGS:
        for noise in (0, *noises):
            tried = list[Row]()
            for rate in (RATE,) if noise else FREE_RATES:
                takes: Mapping[str, Callable[[], Any]] = {
                    f"{setting.name}, noise {noise:g}, rate {rate:g}, seed {seed}": partial(
                        play, setting, noise, rate, seed, rounds
                    )
                    for seed in seeds
                }
                if found := book.several(takes):
                    spent = spend(setting, noise, rounds)
                    tried.append(Row(setting, noise, rate, spent, found))
            rows += [max(tried, key=lambda row: row.mean)] if tried else []
    return rows


def write_table(rows: Sequence[Row]) -> str:
    """Write all rows as a Markdown table."""
    head = "| method | unit | noise | epsilon | rate | accuracy, % |"
    return "\n".join(
        (head, "| --- | --- | ---: | ---: | ---: | ---: |", *(r.write() for r in rows))
    )


def judge(rows: Sequence[Row], *, quick: bool) -> list[Gate]:
    """Ask of every setting that noise buy epsilon, and be paid for in accuracy."""
    gates = list[Gate]()
    for setting in SETTINGS:
        mine = [row for row in rows if row.setting == setting]
        plain, private = mine[0], mine[1:]
        spent = [row.epsilon for row in private]
        falls = all(one > two for one, two in itertools.pairwise(spent))
        span = f"{spent[0]:.1f} to {spent[-1]:.1f}"
        gates.append(Gate(f"{setting.name}: epsilon", "falls with every noise", span, falls))
        name, asked = f"{setting.name}: the loudest noise", "at most 1 point above no privacy"
        if quick:
            gates.append(not_run(name, asked, "a quick run ends before anything is learnt"))
            continue
        said = f"{private[-1].mean:.1f} to {plain.mean:.1f} %"
        gates.append(Gate(name, asked, said, private[-1].mean <= plain.mean + 1))
        gates.append(judge_promise(plain, private))
    return gates


def judge_promise(plain: Row, private: Sequence[Row]) -> Gate:
    """Show the least epsilon at which accuracy is within 5 points of no privacy."""
    near = [row for row in private if row.mean >= plain.mean - 5]
    said = f"epsilon {near[-1].epsilon:.1f}, {near[-1].mean:.1f} %" if near else "none of these"
    name = f"{plain.setting.name}: least epsilon within 5 points of {plain.mean:.1f} %"
    return Gate(name, "-", said)


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, judge."""
    words = sys.argv[1:] if words is None else words
    told = options(str(__doc__), [word for word in words if word != "--page"])
    torch.set_num_threads(1)
    book = Book() if told.quick else Book.open(told.json, closed=told.kept)
    seeds, rounds, noises = (SEEDS[:1], 3, (2,)) if told.quick else (SEEDS, ROUNDS, NOISES)
    table = write_table(rows := measure(book, seeds, rounds, noises))
    print(table)
    if "--page" in words:
        PAGE.write_text(fill(PAGE.read_text(), {"privacy": table}))
    facts = book.facts()
    gates = judge(rows, quick=told.quick)
    return report(gates, book, told, {"cpu": facts["cpu"], "torch": facts["torch"]})


if __name__ == "__main__":
    sys.exit(main())
