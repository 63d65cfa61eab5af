"""What a finished model takes: rows of a table, a graph or a text, from a file or from Python.

Letters: N rows, nodes or windows, D features, T positions, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from moiety.core.objective import Objective
from moiety.core.rows import Rows, TableRows
from moiety.data import files
from moiety.data.dataset import Dataset, FeatureScale
from moiety.data.documents import DocumentEncoding
from moiety.data.encoding import ColumnsEncoding, Encoding
from moiety.data.graph import GraphRows, make_undirected, project_features
from moiety.data.nodes import read_graph
from moiety.data.roles import Columns
from moiety.data.tables import read_encoded
from moiety.data.texts import read_text
from moiety.serve.named import Inputs, NamedAdapter, forms_from_json, refuse_edges, require_array
from moiety.serve.predictions import Predictions, TextPredictions, predict_rows

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

    def answers(
        self, told: LogProbabilities, data: Dataset, objective: Objective, /
    ) -> Predictions:
        return TextPredictions.of(told, data, objective.names)


ADAPTERS: Mapping[str, Callable[[Mapping[str, Any], tuple[int, ...], tuple[str, ...]], Adapter]] = {
    "table": lambda raw, _shape, _classes: TableAdapter(read_encoding(raw.get("encoding"))),
    "graph": lambda raw, _shape, _classes: GraphAdapter(raw["inputs"], raw["project"]),
    "text": lambda _raw, shape, classes: TextAdapter(shape[0], classes),
    "named": lambda raw, _shape, _classes: NamedAdapter(forms_from_json(raw["forms"])),
}
"""Kind -> what builds it, from its ``config()``, the shape of a row and the classes."""


ENCODINGS_OF_ROWS: Mapping[str, Callable[[Mapping[str, Any]], Encoding]] = {
    ColumnsEncoding.kind: ColumnsEncoding.from_json,
    DocumentEncoding.kind: DocumentEncoding.from_json,
}
"""Kind -> what builds it, from its ``to_json()``."""


def read_encoding(raw: Mapping[str, Any] | None) -> Encoding | None:
    """Read how columns become numbers, if they do."""
    return None if raw is None else ENCODINGS_OF_ROWS[raw["kind"]](raw)


@dataclass(frozen=True)
class InputSpec:
    """What a model takes: the shape of a row, its scale, names of classes and columns.

    The shape is that of rows as the model reads them; ``adapter`` brings them there.
    """

    shape: tuple[int, ...]
    scale: FeatureScale
    classes: tuple[str, ...]
    columns: tuple[str, ...] = ()
    adapter: Adapter = field(default_factory=TableAdapter)

    def config(self) -> dict[str, Any]:
        """Say how to build this again."""
        return {
            "shape": list(self.shape),
            "scale": self.scale.to_json(),
            "classes": list(self.classes),
            "columns": list(self.columns),
            "adapter": dict(self.adapter.config()),
        }

    @classmethod
    def from_config(cls, raw: Mapping[str, Any]) -> InputSpec:
        """Build what ``config()`` says."""
        shape, classes = tuple(raw["shape"]), tuple(raw["classes"])
        adapter = raw.get("adapter", {"kind": "table"})
        return cls(
            shape,
            FeatureScale.from_json(raw["scale"]),
            classes,
            tuple(raw["columns"]),
            ADAPTERS[adapter["kind"]](adapter, shape, classes),
        )

    def read(self, path: Path, columns: Columns) -> Dataset:
        """Read a file: columns by name, images flat where the model takes them so."""
        data = self.adapter.read(path, columns)
        x = self.colour(self.order(data.x, data.columns))
        if x.flatten(1).shape[1] == torch.Size(self.shape).numel():
            x = x.reshape(-1, *self.shape)
        return replace(data, x=x)

    def open(self, x: Inputs, edges: Tensor | None = None) -> Rows:
        """Make rows of inputs, [N, ...], and of the edges between them, [2, E], if any."""
        return self.adapter.open(x, edges, self.rows)

    def colour(self, x: Tensor) -> Tensor:
        """Show grey images [N, 1, H, W] in the three colours of training.

        Raises:
            ValueError: for colours where training had grey alone.
        """
        wanted, found = torch.Size(self.shape).numel(), x.flatten(1).shape[1]
        if x.ndim == 4 and x.shape[1] == 1 and wanted == 3 * found:
            return x.expand(-1, 3, -1, -1)
        if x.ndim == 4 and x.shape[1] == 3 and found == 3 * wanted:
            raise ValueError(
                f"images are coloured, {tuple(x.shape[1:])}, but the model was trained on grey "
                "ones; save them as 8-bit grey"
            )
        return x

    def order(self, x: Tensor, columns: tuple[str, ...]) -> Tensor:
        """Bring columns of a table [N, D] into the order of training, by their names.

        Raises:
            ValueError: if one is missing.
        """
        if not self.columns or not columns or x.ndim != 2:
            return x
        place = {name: number for number, name in enumerate(columns)}
        missing = [name for name in self.columns if name not in place]
        if missing:
            raise ValueError(
                f"columns {missing} are missing; the model was trained on {list(self.columns)}"
            )
        return x[:, [place[name] for name in self.columns]]

    def rows(self, inputs: Inputs) -> Tensor:
        """Check and scale inputs, [N, ...].

        Raises:
            ValueError: if the width is wrong or a value is not finite.
        """
        x = require_array(inputs)
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(
                f"rows have shape {tuple(x.shape[1:])}, but the model was trained on "
                f"{self.shape}; give the same columns in the same order"
            )
        bad = ~torch.isfinite(x).flatten(1).all(1)
        if bad.any():
            raise ValueError(f"row {int(bad.nonzero()[0])} holds NaN or infinity; clean the data")
        return self.scale.apply(x)
