"""Bad workers against each merge: ``python -m benchmarks.attacks``.

FedAvg on digits, 10 workers of which 2 are bad, 20 rounds, three seeds. Bad workers send what they
were sent minus their change (sign flip), plus ten times their change (scaled), or learn from labels
c -> 9 - c (label flip). All merges see the same replies.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from moiety.core.rows import TableRows
from moiety.core.state import Job, Reply
from moiety.core.transfers import Transfers
from moiety.engine.serial import Serial
from moiety.merge.robust import blend_change, choose_merge
from moiety.merge.rules import RULES, Merging
from moiety.methods import METHODS
from moiety.methods.task import LocalTraining, Task
from moiety.models.mlp import mlp
from moiety.rounds.cohort import FixedCohort
from moiety.rounds.synchronous import SynchronousRounds, initialise_state

WORKERS, BAD, ROUNDS, SEEDS = 10, (3, 7), 20, (0, 1, 2)
SHARES: Mapping[str, float] = {"none": 1.0, "sign flip": -1.0, "scaled": 10.0, "label flip": 1.0}
"""Attack -> how far a bad worker goes along what it learnt."""


@dataclass
class Attacked:
    """An engine of which some workers go another way than they found."""

    inner: Serial
    share: float
    memory: dict[int, Any] = field(default_factory=dict)
    transfers: Transfers = field(default_factory=Transfers)

    def map(self, solve: Any, jobs: Any, /) -> Iterator[Reply]:
        sent: dict[int, Job] = {}

        def watched() -> Iterator[Job]:
            for job in jobs:
                sent[job.worker] = job
                yield job

        for reply in self.inner.map(solve, watched()):
            job = sent.pop(reply.worker)
            if reply.worker in BAD and self.share != 1.0:
                reply = replace(reply, piece=blend_change(job.piece, reply.piece, self.share))
            yield reply

    def close(self) -> None:
        """Hold nothing open."""


def read_digits(seed: int) -> tuple[dict[int, TableRows], TableRows, torch.Tensor]:
    """Give the rows of each worker, test rows, and all rows' targets; labels are uneven."""
    from sklearn.datasets import load_digits

    x, y = (torch.from_numpy(a) for a in load_digits(return_X_y=True))
    table = {"x": (x / 16).float(), "y": y.long()}
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    test, train = order[:400], order[400:]
    half = train[: len(train) // 2][y[train[: len(train) // 2]].argsort(stable=True)]
    rest = train[len(train) // 2 :]
    hands = [torch.cat(pair) for pair in zip(half.chunk(WORKERS), rest.chunk(WORKERS), strict=True)]
    return {w: TableRows(table, hand) for w, hand in enumerate(hands)}, TableRows(table, test), y


def play(kind: str, attack: str, seed: int) -> float:
    """Play a run; give the accuracy on test rows."""
    rows, test, _ = read_digits(seed)
    if attack == "label flip":
        for worker in BAD:
            table = {**rows[worker].table, "y": 9 - rows[worker].table["y"]}
            rows[worker] = TableRows(table, rows[worker].index)
    model = mlp((64, 32, 10), torch.Generator().manual_seed(seed))
    task = Task(model, LocalTraining(lr=0.1, batch=16, epochs=1), workers=WORKERS, classes=10)
    method = choose_merge(METHODS["fedavg"].make(task), Merging(kind))
    engine = Attacked(Serial(rows.__getitem__), SHARES[attack])
    rounds = SynchronousRounds(method, engine, FixedCohort(tuple(range(WORKERS))), seed)
    state = initialise_state(method)
    for _ in range(ROUNDS):
        state, _ = rounds.advance(state)
    batch = test.take(torch.arange(test.size))
    answer = model.logits(state.params, {"x": batch["x"]}, {}).argmax(-1)
    return 100 * float((answer == batch["y"]).double().mean())


def main(show: Callable[[str], None] = print) -> None:
    show(f"| merge | {' | '.join(SHARES)} |")
    show("| --- |" + " ---: |" * len(SHARES))
    for kind in ("", *RULES):
        cells = []
        for attack in SHARES:
            found = [play(kind, attack, seed) for seed in SEEDS]
            cells.append(f"{statistics.mean(found):.1f} ± {statistics.stdev(found):.1f}")
        show(f"| {kind or 'mean'} | {' | '.join(cells)} |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
