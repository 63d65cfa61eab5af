"""``moiety predict``: use a finished model on a file: rows, a graph or a text."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from moiety.core.errors import RunError
from moiety.data.dataset import Dataset
from moiety.data.roles import Columns
from moiety.ops.text import write_command
from moiety.run.commands.arguments import parse_words
from moiety.run.commands.common import check_folder, check_writable
from moiety.run.commands.words import POSITIONAL
from moiety.run.echo import echo, echo_json, echo_warning
from moiety.run.group import GROUP
from moiety.serve.cards import CARD
from moiety.serve.predictions import Predictions
from moiety.serve.predictor import Predictor, load_model


@dataclass(frozen=True)
class PredictArguments:
    """What can be said behind ``moiety predict``.

    Args:
        run: folder of a finished run, or of a personal model.
        data: CSV, Parquet, npz, or a folder of images; all rows are taken as one worker's, or as
            those of the workers that the column of --group in training names. For a
            graph network, npz with x and edges; for a model of texts, a text in UTF-8.
        target: the column of labels, if the file has one under another name than in training.
        out: a CSV file to write the answer for every row, node or character to.
        json: print as JSON.
    """

    run: Path = field(metadata=POSITIONAL)
    data: Path
    target: str = ""
    out: Path | None = None
    json: bool = False


ABOUT = """Predict the class of every row of a table or node of a graph, or the next character at
every position of a text. Labels are used for nothing but the accuracy that is printed where the
file has some.

examples:
  moiety predict runs/quickstart/ddome-seed0 --data rows.npz
  moiety predict runs/mine --data rows.csv --out classes.csv
  moiety predict runs/cora --data graph.npz
  moiety predict runs/shakespeare --data text.txt --out characters.csv
"""


def open_model(folder: Path) -> Predictor:
    """Load the model of a run; a group has several, and must be told apart."""
    check_folder(folder)
    if not folder.is_dir():
        raise RunError(f"{folder} is a file; give the folder of a run or of a personal model")
    if (folder / GROUP).exists():
        names = sorted(str(path.parent) for path in folder.glob("*/final"))
        raise RunError(f"{folder} holds several runs; name one: {', '.join(names)}")
    if not (folder / "final").is_dir() and not (folder / "model.safetensors").exists():
        if (folder / CARD).exists():
            raise RunError(
                f"{folder} is one owner's expert, which answers nothing alone; put it into a "
                f"mixture: moiety expert add MIXTURE --experts {folder} --out NEW"
            )
        command = write_command("resume", folder)
        raise RunError(f"{folder} has no finished model; go on with: {command}")
    return load_model(folder)


def do_predict(words: Sequence[str]) -> int:
    """Predict."""
    said = parse_words(PredictArguments, words, prog="predict", about=ABOUT)
    check_writable(said.out)
    served = open_model(said.run)
    if served.note.get("own"):
        echo_warning(
            f"{said.run}: {', '.join(served.note['own'])} stayed with the workers that trained; "
            "answers are by their first values"
        )
    columns = Columns(
        said.target or None,
        usual_target=served.note.get("target"),
        usual_group=served.note.get("group"),
        task=served.objective.name,
    )
    data = served.input_spec.read(said.data, columns)
    for note in data.notes:
        echo_warning(note)
    told = answer_workers(served, data)
    answers = served.input_spec.adapter.answers(told, data, served.objective)
    if said.out is not None:
        write_csv(said.out, answers)
    if said.json:
        echo_json(answers.to_plain())
        return 0
    echo(answers.text())
    if said.out is not None:
        echo(f"\n{answers.describe()}: {said.out}")
    return 0


def answer_workers(served: Predictor, data: Dataset) -> Iterator[Tensor]:
    """Answer the rows of each worker as its own, in the order of the file, [B, ..., C]."""
    if data.groups is None:
        edges = None if data.graph is None else data.graph.edges
        yield from served.answer(served.open(data.x, edges))
        return
    mine = [(data.groups == worker).nonzero()[:, 0] for worker in data.groups.unique().tolist()]
    told = [torch.cat(list(served.answer(served.open(data.x[rows])))) for rows in mine]
    yield torch.cat(told)[torch.cat(mine).argsort()]


def write_csv(path: Path, answers: Predictions) -> None:
    """Write the answers, a line each."""
    with path.open("w", newline="", encoding="utf8") as file:
        csv.writer(file).writerows(answers.lines())
