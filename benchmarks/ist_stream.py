"""Rows streamed from Parquet files at each worker: memory stays flat as the files grow.

    python -m benchmarks.ist_stream [--quick] [--check] [--json FILE]

Four workers, each with a Parquet file of its own; subnets of a perceptron are trained from
the files, in a process of its own whose peak memory is read when it is over.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gates import Book, Gate, machine, options, report

WORKERS, COLUMNS, CLASSES, GROUP = 4, 64, 8, 16_384
SIZES = (100_000, 400_000, 1_600_000)
"""Rows a worker; the largest four files hold 1.6 GB as float32."""
STEPS, ROUNDS = 400, 4


def rule() -> np.ndarray:
    """Draw the random network that labels every row, [COLUMNS, CLASSES]."""
    return np.random.default_rng(0).standard_normal((COLUMNS, CLASSES)).astype(np.float32)


def write(path: Path, rows: int, seed: int) -> None:
    """Write a file piece by piece."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng, truth = np.random.default_rng(seed), rule()
    names = [f"x{place}" for place in range(COLUMNS)]
    kinds = [(name, pa.float32()) for name in names]
    schema = pa.schema([*kinds, ("label", pa.int64())])
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as file:
        for first in range(0, rows, GROUP):
            x = rng.standard_normal((min(GROUP, rows - first), COLUMNS)).astype(np.float32)
            y = np.tanh(x) @ truth
            table = {name: x[:, place] for place, name in enumerate(names)}
            file.write_table(pa.table({**table, "label": y.argmax(1)}, schema=schema))


def train(folder: Path) -> dict[str, Any]:
    """Train from the files of a folder; the figures of this process."""
    import torch

    from moiety import METHODS, LocalTraining, Task, TrainConfig, normed, parquet_rows, stream
    from moiety.core.ledger import read_ledger
    from moiety.run.train import train as play

    torch.set_num_threads(1)
    files = sorted(folder.glob("worker*.parquet"))
    rows = {place: parquet_rows(path) for place, path in enumerate(files)}
    test = {"test": {-1: parquet_rows(folder / "test.parquet")}}
    local = LocalTraining(lr=0.1, momentum=0.9, batch=64, epochs=0, steps=STEPS, window=GROUP)
    model = normed((COLUMNS, 256, 256, CLASSES), stream(0, "net"))
    task = Task(model, local, rounds=ROUNDS, workers=WORKERS)
    begun = time.perf_counter()
    how = TrainConfig(ROUNDS, engine="serial", evaluate_every=ROUNDS)
    names = [str(place) for place in range(CLASSES)]
    play(METHODS["ist"].make(task), rows, folder / "run", how, test=test, classes=names)
    seconds = time.perf_counter() - begun
    found = read_ledger(folder / "run" / "ledger.jsonl").evaluations[-1].groups["test"]
    return {
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "seconds": seconds,
        "accuracy": found.metrics["accuracy"][0],
    }


def measured(rows: int) -> dict[str, Any]:
    """Write files, train in a process of its own, and take its figures."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for worker in range(WORKERS):
            write(folder / f"worker{worker}.parquet", rows, 1 + worker)
        write(folder / "test.parquet", 10_000, 99)
        size = sum(path.stat().st_size for path in folder.glob("worker*.parquet"))
        words = [sys.executable, "-m", "benchmarks.ist_stream", "--train", place]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        return {**json.loads(done.stdout.splitlines()[-1]), "file_bytes": size}


def gates(book: Book, sizes: tuple[int, ...]) -> list[Gate]:
    """Compare the sizes."""
    found = [book.measure(f"{rows} rows a worker", lambda r=rows: measured(r)) for rows in sizes]
    lines = []
    for rows, one in zip(sizes, found, strict=True):
        text = (
            f"files {one['file_bytes'] / 1e6:.0f} MB, peak {one['peak_bytes'] / 1e6:.0f} MB, "
            f"accuracy {100 * one['accuracy']:.1f} %, {one['seconds']:.0f} s"
        )
        lines.append(Gate(f"{WORKERS} x {rows:,} rows", "-", text))
    growth = found[-1]["peak_bytes"] - found[0]["peak_bytes"]
    more = found[-1]["file_bytes"] - found[0]["file_bytes"]
    text = f"{growth / 1e6:.0f} MB for {more / 1e6:.0f} MB more rows"
    accuracy = found[-1]["accuracy"]
    return [
        *lines,
        Gate("memory grows by", "at most 5 % of the rows added", text, growth <= 0.05 * more),
        Gate(
            "it learns", "accuracy at least 0.5 (chance 0.125)", f"{accuracy:.3f}", accuracy >= 0.5
        ),
    ]


def main() -> int:
    if sys.argv[1:2] == ["--train"]:
        print(json.dumps(train(Path(sys.argv[2]))))
        return 0
    told = options(__doc__ or "")
    book = Book() if told.quick else Book.open(told.json, closed=told.kept)
    return report(gates(book, SIZES[:2] if told.quick else SIZES), book, told, machine())


if __name__ == "__main__":
    raise SystemExit(main())
