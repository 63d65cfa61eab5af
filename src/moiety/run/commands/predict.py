"""``moiety predict``: use a finished model on a file of rows."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from moiety.data.dataset import Dataset
from moiety.data.files import read
from moiety.run.commands.common import existing, parse
from moiety.run.errors import RunError
from moiety.run.final import Served, load
from moiety.run.group import GROUP
from moiety.run.say import columns, say, say_json, warn


@dataclass(frozen=True)
class Words:
    """What can be said behind ``moiety predict``.

    Args:
        run: folder of a finished run, or of a personal model.
        data: CSV, Parquet, npz, or a folder of images; all rows are taken as one worker's.
        target: the column of labels, if the file has one under another name than in training.
        out: a CSV file to write the class and probability of every row to.
        json: print as JSON.
    """

    run: tyro.conf.Positional[Path]
    data: Path
    target: str = ""
    out: Path | None = None
    json: bool = False


ABOUT = """Predict the class of every row. Labels are used for nothing but the accuracy that is
printed where the file has some.

examples:
  moiety predict runs/quickstart/ddome-seed0 --data rows.npz
  moiety predict runs/mine --data rows.csv --out classes.csv
"""


def open_model(folder: Path) -> Served:
    """Load the model of a run; a group has several, and must be told apart."""
    existing(folder)
    if (folder / GROUP).exists():
        names = sorted(path.parent.name for path in folder.glob("*/final"))
        raise RunError(f"{folder} holds several runs; name one: {', '.join(names)}")
    if not (folder / "final").is_dir() and not (folder / "model.safetensors").exists():
        raise RunError(f"{folder} has no finished model; go on with: moiety resume {folder}")
    return load(folder)


def shaped(served: Served, data: Dataset) -> torch.Tensor:
    """Give the rows as the model takes them: columns by name, images flat where it is so."""
    shape = served.intake.shape
    size = int(torch.tensor(shape).prod())
    x = served.intake.order(data.x, data.columns)
    return x.reshape(-1, *shape) if x.flatten(1).shape[1] == size else x


def main(words: Sequence[str]) -> int:
    """Predict."""
    said = parse(Words, words, prog="predict", about=ABOUT)
    served = open_model(said.run)
    if served.note.get("own"):
        warn(
            f"{said.run}: {', '.join(served.note['own'])} stayed with the workers that trained; "
            "answers are by their first values"
        )
    data = read(said.data, target=said.target or None, likely=served.note.get("target"))
    log_proba = served.predict_log_proba(shaped(served, data))
    guess = log_proba.argmax(-1)
    names = [served.intake.classes[place] for place in guess.tolist()]
    sure = log_proba.exp().amax(-1).tolist()
    if said.out is not None:
        write_csv(said.out, names, sure)
    counts = {name: names.count(name) for name in served.intake.classes if name in names}
    right = accuracy(served, data, names)
    if said.json:
        say_json({"rows": len(names), "counts": counts, "accuracy": right, "classes": names})
        return 0
    say(columns([["class", "rows"], *([name, str(count)] for name, count in counts.items())]))
    if right is not None:
        say(f"\naccuracy on the labels in the file: {right:.4f}")
    if said.out is not None:
        say(f"\nclasses of {len(names)} rows: {said.out}")
    return 0


def accuracy(served: Served, data: Dataset, names: Sequence[str]) -> float | None:
    """Compare with the labels of the file by name, where it has some."""
    if data.y is None:
        return None
    truth = [data.classes[place] for place in data.y.tolist()]
    unknown = sorted(set(truth) - set(served.intake.classes))
    if unknown:
        raise RunError(
            f"labels {unknown[:5]} are not among the model's classes {served.intake.classes}; "
            "name the right column with --target"
        )
    return sum(a == b for a, b in zip(truth, names, strict=True)) / len(names)


def write_csv(path: Path, names: Sequence[str], sure: Sequence[float]) -> None:
    """Write a class and its probability for every row."""
    with path.open("w", newline="", encoding="utf8") as file:
        writer = csv.writer(file)
        writer.writerow(["class", "probability"])
        writer.writerows(zip(names, (f"{p:.6f}" for p in sure), strict=True))
