"""What a finished model takes: rows of a table, a graph or a text, from a file or from Python.

Letters: N rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from moiety.core.objective import Objective
from moiety.core.rows import Rows, fit_chunk
from moiety.data.dataset import Dataset, FeatureScale
from moiety.data.roles import Columns
from moiety.ops.text import write_some
from moiety.serve.adapters import ADAPTERS, Adapter, TableAdapter
from moiety.serve.named import Inputs, require_array


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

    def choose_chunk(self, objective: Objective) -> int:
        """Choose how many rows are answered at a time: fewer where each has many answers."""
        of_tokens = not objective.categorical and not len(self.scale.mean)
        positions = torch.Size(self.shape).numel() if of_tokens else 1
        return fit_chunk(2048, positions * objective.outputs)

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
                f"columns {write_some(missing)} are missing; the model was trained "
                f"on {write_some(self.columns)}"
            )
        return x[:, [place[name] for name in self.columns]]

    def rows(self, inputs: Inputs) -> Tensor:
        """Check and scale inputs, [N, ...].

        Raises:
            ValueError: if the width is wrong or a value is not finite.
        """
        x = require_array(inputs)
        x = x.float() if x.is_floating_point() else x
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(
                f"rows have shape {tuple(x.shape[1:])}, but the model was trained on "
                f"{self.shape}; give the same columns in the same order"
            )
        bad = ~torch.isfinite(x).flatten(1).all(1)
        if bad.any():
            raise ValueError(f"row {int(bad.nonzero()[0])} holds NaN or infinity; clean the data")
        return self.scale.apply(x)
