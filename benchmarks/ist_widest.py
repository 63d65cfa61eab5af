"""The widest network that fits: independent subnets in blocks beside data parallelism.

    python -m benchmarks.ist_widest [--quick] [--check] [--json FILE]

Under one limit for the tensors that a rank holds at once (parameters, gradients, optimiser, batch,
what the backward pass and the exchange need; rows at rest are not counted, of either), kept by a
``MemoryError``: the widest perceptron of Fashion-MNIST and the widest GraphSAGE of Coauthor CS (60
clusters, one a step, Adam) that a lean data-parallel rank trains, found in steps of 5 %, and one
that eight ranks train in blocks, none of which ever holds the whole. Data parallelism is one job on
the whole, stepping in place, without a second copy. Quick runs take a sixth of the limit, where
what does not grow with width weighs more, so that 6 times is asked; and two rounds.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from benchmarks.gates import Book, Gate, machine, options, report
from benchmarks.ist_graphs import piece as graph_piece
from benchmarks.ist_parts.network import ranks

N, MIB = 8, 1 << 20
LO = "127.0.0.1", "lo"


def perceptron(width: int, n: int = 1) -> int:
    """Count the numbers of a subnet: section 9.1."""
    inner = width // n
    return sum(a * b for a, b in pairwise((784, inner, inner, 10))) + 4 * inner


def sage(width: int, n: int = 1) -> int:
    """Count the numbers of a subnet: section 9.1, one for the node and one for its neighbours."""
    return graph_piece("sage", (512, width, width, 15), n)


NETS: Mapping[str, Any] = {
    "normed": ("perceptron", perceptron, 10),
    "sage": ("GraphSAGE", sage, 20),
}
"""Kind -> what it is called, its count of numbers, local steps of a round."""


def widest_whole(book: Book, net: str, limit: int) -> int:
    """Find the widest that data parallelism trains, in steps of 5 %."""
    widths = [round(64 * 1.05**step) for step in range(80)]
    job = {"it": {"kind": "parallel", "net": net, "widths": widths, "limit": limit}}
    key = f"{net}, data parallel, {limit} bytes"
    return book.measure(key, lambda: ranks(job, [[]], *LO)["it"])["width"]


def largest(book: Book, net: str, wide: int, limit: int, rounds: int, least: int = 8) -> list[Gate]:
    """Compare the widest whole with a network in blocks, which has ``least`` times the numbers."""
    name, count, every = NETS[net]
    whole = widest_whole(book, net, limit)
    job = {
        "kind": "widest", "net": net, "width": wide, "limit": limit, "every": every,
        "rounds": rounds,
    }  # fmt: skip
    key = f"{net}, blocks, width {wide}, {limit} bytes, {rounds} rounds"
    found = book.measure(key, lambda: ranks({"it": job}, [[]] * N, *LO)["it"])
    ratio, losses = count(wide) / count(whole), found["losses"]
    part = count(wide, N)
    said = (
        f"{ratio:.1f} (widths {wide:,} and {whole:,}, {count(wide):,} and {count(whole):,} "
        f"numbers; the largest peak of a rank in blocks {found['peak'] / MIB:.1f} MiB, "
        f"a piece {part:,} numbers)"
    )
    learns = losses[-1] < losses[0] and found["accuracy"] > 0.3
    told = f"loss {losses[0]:.3f} to {losses[-1]:.3f}, accuracy {found['accuracy']:.3f}"
    gates = [
        Gate(f"{name}: numbers, in blocks (n = {N}) over data parallel, under {limit / MIB:g} MiB",
             f"at least {least}", said, ratio >= least and found["peak"] <= limit),
        Gate(f"{name}: it learns, {rounds} rounds of {every} steps",
             "loss falls, accuracy above .3", told, learns if rounds > 2 else None),
    ]  # fmt: skip
    if net == "normed" and rounds > 2:
        gates += formulas(found, wide, rounds)
    return gates


def formulas(found: Mapping[str, Any], wide: int, rounds: int) -> list[Gate]:
    """Hold a perceptron in blocks against the formulas of memory (9.3) and bytes (9.4)."""
    part, inner = perceptron(wide, N), wide // N
    formula = 4 * (2 * part + perceptron(wide) / N + 64 * (784 + 6 * inner + 10))
    sent = rounds * 2 * (N - 1) * 4 * part // N
    near = abs(found["peak"] / formula - 1) <= 0.15
    return [
        Gate("perceptron: peak tensor bytes of a rank over formula 9.3", "within 15 %",
             f"{found['peak'] / formula:.3f}", near),
        Gate("perceptron: bytes sent by a rank, formula 9.4", f"{sent}", f"{found['sent']}",
             found["sent"] == sent),
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    told = options(__doc__ or "", arguments)
    book = Book.open(told.json, closed=told.kept)
    if told.quick:
        gates = largest(book, "normed", 2048, 8 * MIB, 2, least=6)
    else:
        gates = [
            *largest(book, "normed", 7808, 48 * MIB, 8),
            *largest(book, "sage", 4096, 48 * MIB, 10),
        ]
    return report(gates, book, told, machine())


if __name__ == "__main__":
    sys.exit(main())
