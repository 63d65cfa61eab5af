"""What it takes to pass subnets from worker to worker, beside the way of the owners.

    python -m benchmarks.ist_peers [--quick] [--check] [--json FILE]

One rank of many, with the network stubbed out: what it sends is cut and put together, what comes
are zeros of the right number. Seconds are a round's without its training; a local step of the same
worker stands beside them.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gates import Book, Gate, at_most, machine, options, report, shown
from moiety.blocks.normed import make_abstract_normed
from moiety.blocks.partitioned import BlockRounds, receive_piece
from moiety.blocks.peers import average_shared, pass_pieces
from moiety.blocks.shards import PassedPieces, Shards
from moiety.blocks.slices import fold_slices, return_slices
from moiety.core.axes import Part
from moiety.core.rows import TableRows
from moiety.core.streams import stream
from moiety.methods.ist import ist
from moiety.methods.task import LocalTraining, Task

CROWDS, QUICK, MOST, STEPS = (2, 4, 8, 16, 32, 64), (2, 16, 64), 2.0, 10
WIDTHS, QUICK_WIDTHS = (784, 2048, 2048, 10), (64, 512, 512, 10)
TAKES = 5


@dataclass
class SilentRanks:
    """One of many ranks, to whom nothing but zeros comes."""

    rank: int
    size: int

    def all_to_all(self, parcels: list[Tensor], sizes: Sequence[int]) -> list[Tensor]:
        """Take parcels, and give zeros."""
        boxes = [parcels[0].new_zeros(size) for size in sizes]
        parcels.clear()
        return boxes

    def gather_flat(self, mine: Tensor, sizes: Sequence[int]) -> list[Tensor]:
        """Give zeros for the tensor of every rank."""
        return self.all_to_all([mine] * self.size, sizes)


def measure_rounds(size: int, widths: tuple[int, ...]) -> dict[str, list[float]]:
    """Time what a rank does in a round besides training, both ways, and a local step."""
    torch.set_num_threads(1)
    local = LocalTraining(lr=0.1, momentum=0.0, batch=32, epochs=0, steps=STEPS)
    method = ist(Task(make_abstract_normed(widths), local, workers=size), assignment="round_robin")
    workers = tuple(range(size))
    run = BlockRounds(method, lambda _: make_rows(widths[0]), lambda *_: workers, 0, peers=True)
    ranks: Any = SilentRanks(size // 2, size)
    shards = run.begin(Shards(method.model, ranks))
    parts = [[share.part for share in run.split(number).values()] for number in range(TAKES + 2)]
    told: dict[str, list[float]] = {"owners": [], "peers": [], "step": []}
    shards.passed = PassedPieces(parts[0], receive_piece(shards, parts[0]))
    for number in range(1, TAKES + 2):
        peers = time_call(partial(play_peers, shards, parts[number]))
        owners = time_call(partial(play_owners, shards, parts[number]))
        worker, share = list(run.split(number).items())[ranks.rank]
        job = partial(run.work, number, worker, share, receive_piece(shards, parts[number]))
        step = time_call(job) / STEPS
        if number > 1:  # the first warms up
            for name, seconds in (("owners", owners), ("peers", peers), ("step", step)):
                told[name].append(seconds)
    return told


def make_rows(width: int) -> TableRows:
    """Make rows to train on."""
    table = {"x": torch.randn(320, width, generator=stream(0, "rows")), "y": torch.arange(320) % 10}
    return TableRows(table, torch.arange(320))


def time_call(call: Callable[[], object]) -> float:
    """Give the seconds of a call."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def play_peers(shards: Shards, parts: Sequence[Part]) -> None:
    """Do all of a round but its training, from worker to worker."""
    piece = pass_pieces(shards, parts)
    shards.passed = PassedPieces(parts, average_shared(shards, parts, piece))


def play_owners(shards: Shards, parts: Sequence[Part]) -> None:
    """Do all of a round but its training, by way of the owners."""
    piece = receive_piece(shards, parts)
    for section, name, block in shards.tensors():
        came = return_slices(shards, name, parts, piece[section][name])
        fold_slices(block, came, shards.dim(name, block))


def judge_crowd(size: int, told: dict[str, list[float]]) -> list[Gate]:
    """Ask that passing straight take at most twice what the owners' way takes."""
    ratios = [a / b for a, b in zip(told["peers"], told["owners"], strict=True)]
    step = statistics.median(told["step"])
    return [
        at_most(f"{size} ranks: peers over owners", MOST, ratios, "x"),
        shown(f"{size} ranks: peers", [1000 * s for s in told["peers"]], " ms"),
        shown(f"{size} ranks: owners", [1000 * s for s in told["owners"]], " ms"),
        shown(f"{size} ranks: peers in local steps", [s / step for s in told["peers"]]),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and judge."""
    told = options("Passing subnets on, with the network stubbed out.", arguments)
    book = Book.open(told.json, closed=told.kept)
    widths = QUICK_WIDTHS if told.quick else WIDTHS
    gates: list[Gate] = []
    for size in QUICK if told.quick else CROWDS:
        key = f"{size} ranks, widths {'-'.join(map(str, widths))}"
        gates += judge_crowd(size, book.measure(key, partial(measure_rounds, size, widths)))
    return report(gates, book, told, machine())


if __name__ == "__main__":
    sys.exit(main())
