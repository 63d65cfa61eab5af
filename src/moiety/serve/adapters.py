"""How inputs come to a finished model: rows of a table, a graph or a text, from a file or Python.

Letters: N rows, nodes or windows, D features, T positions, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Generator, Tensor

from moiety.core.objective import Objective
from moiety.core.rows import Rows, TableRows
from moiety.data import files
from moiety.data.dataset import Dataset
from moiety.data.documents import DocumentEncoding
from moiety.data.encoding import ColumnsEncoding, Encoding
from moiety.data.graph import GraphRows, make_undirected, project_features
from moiety.data.nodes import read_graph
from moiety.data.records import RecordColumns
from moiety.data.roles import Columns
from moiety.data.tables import read_encoded
from moiety.data.texts import read_text
from moiety.data.tokens import TokenEncoding
from moiety.serve.named import Inputs, NamedAdapter, forms_from_json, refuse_edges, require_array
from moiety.serve.predictions import Predictions, TextPredictions, predict_rows
from moiety.serve.records import RecordsAdapter

LogProbabilities = Iterable[Tensor]
"""Log-probabilities of rows, [B, ..., C], chunk by chunk."""

Check = Callable[[Inputs], Tensor]
"""Refuses inputs that do not fit, [N, ...], and scales the others."""


class Adapter(Protocol):
    """How inputs come, and what is said of the answers."""

    def config(self) -> Mapping[str, Any]:
        """Say how to build this again, beside the shape of a row and the classes."""
        ...

    def read(self, path: Path, columns: Columns, /) -> Dataset:
        """Read a file."""
        ...

    def open(self, x: Inputs, edges: Tensor | None, check: Check, /) -> Rows:
        """Make rows of inputs, [N, ...], as the model reads them."""
        ...

    def answers(
        self, told: LogProbabilities, data: Dataset, objective: Objective, /
    ) -> Predictions:
        """Sum up what the model told."""
        ...

    def draw(self, count: int, shape: tuple[int, ...], rng: Generator, /) -> Tensor:
        """Draw inputs as the model takes them, [count, *shape], to try a copy of it on.

        Raises:
            ValueError: where rows do not stand on their own.
        """
        ...


@dataclass(frozen=True)
class TableAdapter:
    """Rows on their own.

    Args:
        encoding: how columns of a table become numbers; None where rows came as numbers.
    """

    encoding: Encoding | None = None

    def config(self) -> Mapping[str, Any]:
        encoding = None if self.encoding is None else self.encoding.to_json()
        return {"kind": "table", "encoding": encoding}

    def read(self, path: Path, columns: Columns, /) -> Dataset:
        files.require_input(path)
        if self.encoding is None or not files.is_table(path):
            return files.read_file(path, columns)
        return read_encoded(path, columns, self.encoding)

    def open(self, x: Inputs, edges: Tensor | None, check: Check, /) -> Rows:
        refuse_edges(edges)
        scaled = check(x)
        return TableRows({"x": scaled}, torch.arange(len(scaled)))

    def draw(self, count: int, shape: tuple[int, ...], rng: Generator, /) -> Tensor:
        words = 0 if self.encoding is None else self.encoding.vocabulary
        if words:
            return torch.randint(words, (count, *shape), generator=rng)
        return torch.randn((count, *shape), generator=rng)

    def answers(
        self, told: LogProbabilities, data: Dataset, objective: Objective, /
    ) -> Predictions:
        return predict_rows(told, data, objective)


@dataclass(frozen=True)
class GraphAdapter:
    """The nodes of a graph, which is answered whole.

    Args:
        inputs: features of a node as the data have them.
        project: the width they are projected to, by the matrix that this width and ``inputs``
            determine; 0 leaves them.
    """

    inputs: int
    project: int = 0

    def config(self) -> Mapping[str, Any]:
        return {"kind": "graph", "inputs": self.inputs, "project": self.project}

    def read(self, path: Path, columns: Columns, /) -> Dataset:
        return read_graph(path, columns)

    def open(self, x: Inputs, edges: Tensor | None, check: Check, /) -> Rows:
        x = require_array(x)
        if edges is None:
            raise ValueError("this model reads a graph; give its edges, [2, E]: predict(x, edges)")
        if x.ndim != 2 or x.shape[1] != self.inputs:
            raise ValueError(
                f"x has shape {list(x.shape)}, but the model was trained on nodes with "
                f"{self.inputs} features; give x [N, {self.inputs}] as the data have it, not "
                "projected"
            )
        seen = check(project_features(x, self.project) if self.project else x)
        one = torch.zeros(1, dtype=torch.int64)
        return GraphRows({"x": seen}, make_undirected(edges, len(x)), one.expand(len(x)), one)

    def draw(self, count: int, shape: tuple[int, ...], rng: Generator, /) -> Tensor:
        raise ValueError(
            "this model answers the nodes of a graph together, and no row on its own; use it by "
            "moiety predict or moiety.load_model"
        )

    def answers(
        self, told: LogProbabilities, data: Dataset, objective: Objective, /
    ) -> Predictions:
        return predict_rows(told, data, objective)


@dataclass(frozen=True)
class TextAdapter:
    """Windows of characters; the model says which comes next at every position.

    Args:
        context: characters of a window.
        known: the alphabet, in the order of its numbers.
    """

    context: int
    known: tuple[str, ...]

    def config(self) -> Mapping[str, Any]:
        return {"kind": "text"}

    def read(self, path: Path, columns: Columns, /) -> Dataset:
        if columns.target is not None:
            raise ValueError(
                f"the label {columns.target!r} was named, but a text has no columns; leave out "
                "--target"
            )
        return read_text(path, self.known, self.context)

    def open(self, x: Inputs, edges: Tensor | None, check: Check, /) -> Rows:
        refuse_edges(edges)
        x = require_array(x)
        tokens, count = check(x), len(self.known)
        if x.is_floating_point() or ((x < 0) | (x >= count)).any():
            raise ValueError(
                f"x is {x.dtype} from {x.min()} to {x.max()}, but the model reads {count} "
                "characters by their numbers; give int64 along intake.classes"
            )
        return TableRows({"x": tokens}, torch.arange(len(x)))

    def draw(self, count: int, shape: tuple[int, ...], rng: Generator, /) -> Tensor:
        return torch.randint(len(self.known), (count, *shape), generator=rng)

    def answers(
        self, told: LogProbabilities, data: Dataset, objective: Objective, /
    ) -> Predictions:
        return TextPredictions.of(told, data, objective.names)


ADAPTERS: Mapping[str, Callable[[Mapping[str, Any], tuple[int, ...], tuple[str, ...]], Adapter]] = {
    "table": lambda raw, _shape, _classes: TableAdapter(read_encoding(raw.get("encoding"))),
    "graph": lambda raw, _shape, _classes: GraphAdapter(raw["inputs"], raw["project"]),
    "text": lambda _raw, shape, classes: TextAdapter(shape[0], classes),
    "records": lambda raw, _shape, _classes: rebuild_records(raw),
    "named": lambda raw, _shape, _classes: NamedAdapter(forms_from_json(raw["forms"])),
}
"""Kind -> what builds it, from its ``config()``, the shape of a row and the classes."""


def rebuild_records(raw: Mapping[str, Any]) -> RecordsAdapter:
    """Build what ``RecordsAdapter.config()`` says."""
    columns = RecordColumns(tuple(raw["request"]), raw["answer"], raw["skill"], raw["group"])
    return RecordsAdapter(raw["folder"], raw["length"], columns)


ENCODINGS_OF_ROWS: Mapping[str, Callable[[Mapping[str, Any]], Encoding]] = {
    ColumnsEncoding.kind: ColumnsEncoding.from_json,
    DocumentEncoding.kind: DocumentEncoding.from_json,
    TokenEncoding.kind: TokenEncoding.from_json,
}
"""Kind -> what builds it, from its ``to_json()``."""


def read_encoding(raw: Mapping[str, Any] | None) -> Encoding | None:
    """Read how columns become numbers, if they do."""
    return None if raw is None else ENCODINGS_OF_ROWS[raw["kind"]](raw)
