"""One file of each kind that the project reads, and how each is read."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from benchmarks.faults_parts.watch import call
from moiety.blocks.checkpoint import load_blocks, save_blocks
from moiety.blocks.shards import Shards
from moiety.core.ledger import read_ledger
from moiety.core.streams import stream
from moiety.data.files import read_file
from moiety.data.nodes import read_graph
from moiety.data.tables import Columns
from moiety.data.texts import read_text
from moiety.engine.ranks import Ranks
from moiety.models.normed import normed
from moiety.recipes.fields import read_fields
from moiety.run.checkpoint import list_checkpoints, read_checkpoint
from moiety.run.group import list_members, read_spec

WORDS = shlex.split(
    "--rounds 4 --evaluate-every 2 --population.workers 6 --population.unseen 2 "
    "--population.scheme labels --population.anchors 2 --population.classes 2 --seeds 1 "
    "--participation.size 4 --participation.anchors 1 --mlp.hidden 4 --common.epochs 3 "
    "--checkpoint.every 2 --engine serial"
)


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Args:
        path: a good one.
        read: reads it and gives what it says.
        own: the project wrote it, so that any change must be noticed.
    """

    path: Path
    read: Callable[[], str]
    own: bool = False


def sum_up(value: object) -> str:
    """Give a digest of any answer; of tensors their numbers."""
    if isinstance(value, torch.Tensor):
        return f"{value.dtype}{list(value.shape)}{sum_up(value.float().numpy().tobytes())}"
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, Mapping):
        return str({str(name): sum_up(one) for name, one in sorted(value.items(), key=str)})
    return repr(value)


def write_inputs(folder: Path) -> None:
    """Write inputs of every kind."""
    rng = np.random.default_rng(5)
    y = np.arange(400) % 5
    x = rng.normal(size=(400, 6)).astype(np.float32)
    x[np.arange(400), y] += 3
    names = np.array(("red", "green", "blue", "white", "black"))[y]
    np.savez(folder / "table.npz", x=x, y=names)
    x, names = x[:40], names[:40]
    np.savez(folder / "plain.npz", x=x, y=names)
    np.savez_compressed(folder / "packed.npz", x=x, y=names)
    edges = np.stack([np.arange(39), np.arange(1, 40)])
    np.savez_compressed(folder / "graph.npz", x=x, edges=edges, y=y[:40])
    lines = [",".join([*map(str, row), name]) for row, name in zip(x, names, strict=True)]
    (folder / "rows.csv").write_text("a,b,c,d,e,f,label\n" + "\n".join(lines) + "\n")
    table = {name: x[:, place] for place, name in enumerate("abcdef")} | {"label": names.tolist()}
    pq.write_table(pa.table(table), folder / "rows.parquet")
    (folder / "text.txt").write_text("abc abd bcd\n" * 40)
    (folder / "fields.toml").write_text("rounds = 4\n[local]\nlr = 0.02\n[ddome]\nk = 2\n")
    pixels = rng.integers(0, 255, (9, 9, 3)).astype(np.uint8)
    for suffix in ("png", "jpg"):
        (folder / suffix).mkdir()
        Image.fromarray(pixels).save(folder / suffix / f"a.{suffix}")


def write_runs(folder: Path) -> None:
    """Play a run, a group of two, and make a personal model."""
    words = ["run", "yours", "--data", folder / "table.npz", *WORDS]
    gated = ("--methods", "ddome", "--ddome.experts", 3, "--ddome.gate-hidden", 8)
    call([*words, *gated, "--out", folder / "run"])
    call([*words, "--methods", "fedavg", "fedprox", "--out", folder / "group"])
    data = folder / "plain.npz"
    call(["personalize", folder / "run", "--data", data, "--out", folder / "own"])


def write_blocks(folder: Path) -> Callable[[], str]:
    """Write a checkpoint of blocks; give what reads it."""
    model = normed((5, 8, 3), stream(0, "net"))
    save_blocks(Shards(model, Ranks()).begin(1), folder / "blocks", "mine")

    def read() -> str:
        shards = Shards(model, Ranks())
        load_blocks(shards, folder / "blocks", "mine")
        return sum_up(shards.params)

    return read


def read_kept(run: Path) -> str:
    """Read the newest checkpoint of a run."""
    kept = read_checkpoint(list_checkpoints(run / "checkpoints")[-1], read_spec(run).fingerprint)
    return sum_up(kept.state.params) + sum_up(kept.memory) + repr(kept.ledger_bytes)


def read_rows(path: Path) -> str:
    """Read a file of rows."""
    data = read_file(path)
    return sum_up(data.x) + repr(data.classes)


def fill_shelf(folder: Path) -> dict[str, Kind]:
    """Make a good file of every kind."""
    write_inputs(folder)
    write_runs(folder)
    blocks, run = write_blocks(folder), folder / "run"
    kept, block = sorted((run / "checkpoints").iterdir())[-1], folder / "blocks" / "00000001"
    block = next((folder / "blocks").glob("[0-9]*"))
    data = str(folder / "plain.npz")

    def predict(model: Path, rows: Path | str) -> Callable[[], str]:
        return lambda: call(["predict", model, "--data", rows, "--json"])

    found = {
        "final config": Kind(run / "final" / "config.json", predict(run, data), own=True),
        "final model": Kind(run / "final" / "model.safetensors", predict(run, data), own=True),
        "personal config": Kind(
            folder / "own" / "config.json", predict(folder / "own", data), own=True
        ),
        "personal model": Kind(
            folder / "own" / "model.safetensors", predict(folder / "own", data), own=True
        ),
        "run config": Kind(run / "config.json", lambda: repr(read_spec(run)), own=True),
        "group": Kind(
            folder / "group" / "group.json",
            lambda: repr(list_members(folder / "group")),
            own=True,
        ),
        "ledger": Kind(
            run / "ledger.jsonl", lambda: repr(read_ledger(run / "ledger.jsonl")), own=True
        ),
        "checkpoint": Kind(kept / "checkpoint.json", lambda: read_kept(run), own=True),
        "checkpoint tensors": Kind(kept / "tensors.safetensors", lambda: read_kept(run), own=True),
        "block index": Kind(block / "round.json", blocks, own=True),
        "blocks": Kind(next(block.glob("*.safetensors")), blocks, own=True),
        "fields": Kind(folder / "fields.toml", lambda: repr(read_fields(folder / "fields.toml"))),
        "text": Kind(
            folder / "text.txt",
            lambda: sum_up(read_text(folder / "text.txt", " \nabcd", 8).x),
        ),
        "graph": Kind(
            folder / "graph.npz",
            lambda: sum_up(read_graph(folder / "graph.npz", Columns()).x),
        ),
        "png": Kind(folder / "png" / "a.png", lambda: read_rows(folder / "png")),
        "jpg": Kind(folder / "jpg" / "a.jpg", lambda: read_rows(folder / "jpg")),
    }
    for name in ("plain.npz", "packed.npz"):
        found[name] = Kind(folder / name, predict(run, folder / name))
    for name in ("rows.csv", "rows.parquet"):
        found[name] = Kind(folder / name, lambda path=folder / name: read_rows(path))
    return found
