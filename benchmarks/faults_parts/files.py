"""Damaged and hostile files of every kind: each is refused in one sentence, or read as it was.

A file of the project's own must be refused or say what it said; one of the user's carries no
digest, and must be refused or read.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks.faults_parts.crafted import craft_files
from benchmarks.faults_parts.shelf import Kind, fill_shelf
from benchmarks.faults_parts.watch import Try, play

SEED, MUTATIONS, QUICK = 10, 3000, 150


def mutate(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Change a file somewhere: flip, cut, zero, insert, or overwrite a range."""
    size = max(1, len(data))
    at = rng.randrange(size)
    end = min(size, at + rng.choice((1, 4, 10, 100)))
    noise = rng.randbytes(end - at)
    changes = {
        f"flip {at}": data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :],
        f"cut {at}": data[:at],
        f"zero {at}-{end}": data[:at] + bytes(end - at) + data[end:],
        f"insert {at}": data[:at] + noise + data[at:],
        f"noise {at}-{end}": data[:at] + noise + data[end:],
        f"drop {at}-{end}": data[:at] + data[end:],
    }
    return rng.choice(sorted(changes.items()))


def change_file(kind: Kind, data: bytes) -> Callable[[], str]:
    """Read a file that was changed, and put it back."""

    def act() -> str:
        good = kind.path.read_bytes()
        kind.path.write_bytes(data)
        try:
            return kind.read()
        finally:
            kind.path.write_bytes(good)

    return act


@contextmanager
def open_shelf() -> Iterator[dict[str, Kind]]:
    """Make a good file of every kind, in a folder that is gone at the end."""
    torch.set_num_threads(1)  # a fork would wait for threads that it has not
    folder = Path(tempfile.mkdtemp())
    try:
        yield fill_shelf(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_mutated(*, quick: bool) -> tuple[int, int, list[str]]:
    """Mutate files of all kinds; give how many, how many ended well, and what of the others."""
    rng = random.Random(SEED)
    with open_shelf() as shelf:
        good = {name: kind.read() for name, kind in shelf.items()}
        lines = shelf["ledger"].path.read_bytes().splitlines(keepends=True)
        torn = change_file(shelf["ledger"], b"".join(lines[:-1]))()  # as a kill may leave it
        tries: list[Try] = []
        for number in range(QUICK if quick else MUTATIONS):
            name = sorted(shelf)[number % len(shelf)]
            what, data = mutate(shelf[name].path.read_bytes(), rng)
            tries.append((f"{name}: {what}", change_file(shelf[name], data)))

        def fits(name: str, told: str) -> bool:
            kind = name.partition(":")[0]
            lost = kind == "ledger" and (": cut" in name or told == torn)
            return told == good[kind] or lost or not shelf[kind].own

        bad = play(tries, fits)
    return len(tries), len(tries) - len(bad), bad


def run_crafted(*, quick: bool) -> tuple[int, int, list[str]]:
    """Try hostile files; give how many, how many ended well, and what of the others."""
    with open_shelf() as shelf:
        tries = craft_files(shelf)
        tries = tries[:: len(tries) // 50] if quick else tries
        bad = play(tries, lambda name, _: "may be read" in name)
    return len(tries), len(tries) - len(bad), bad


def run(*, quick: bool) -> tuple[int, int, list[str]]:
    """Try mutated and crafted files."""
    told = run_mutated(quick=quick), run_crafted(quick=quick)
    return sum(one[0] for one in told), sum(one[1] for one in told), [*told[0][2], *told[1][2]]
