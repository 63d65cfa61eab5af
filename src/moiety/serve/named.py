"""Inputs of several names, of one number a row, or in half precision: columns as a module has them.

Letters: N rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from moiety.core.objective import Objective
from moiety.core.rows import Rows, TableRows
from moiety.core.types import TARGET, Batch
from moiety.data.dataset import Dataset
from moiety.data.tables import Columns
from moiety.serve.predictions import Predictions, predict_rows

Inputs = Tensor | Mapping[str, Tensor]
"""Inputs of rows, [N, ...], or columns of them by name."""


@dataclass(frozen=True)
class ColumnForm:
    """What a column holds for each row.

    Args:
        shape: of an entry.
        dtype: as torch names it, ``float32``.
    """

    shape: tuple[int, ...]
    dtype: str

    @property
    def kind(self) -> torch.dtype:
        """The type itself."""
        return getattr(torch, self.dtype)


def require_array(x: Inputs) -> Tensor:
    """Refuse columns by name where inputs are one array."""
    if isinstance(x, Tensor):
        return x
    raise ValueError(f"columns {list(x)} were given, but the model takes one array: predict(x)")


def refuse_edges(edges: Tensor | None) -> None:
    """Refuse edges where rows stand on their own."""
    if edges is not None:
        raise ValueError(
            f"edges {list(edges.shape)} were given, but this model reads no graph; leave them out"
        )


def read_forms(batch: Batch) -> dict[str, ColumnForm]:
    """Read the forms of the columns of a batch, but for its target."""
    return {
        name: ColumnForm(tuple(column.shape[1:]), str(column.dtype).removeprefix("torch."))
        for name, column in batch.items()
        if name != TARGET
    }


def fit_column(name: str, column: Tensor, form: ColumnForm) -> Tensor:
    """Check a column [N, ...] and bring it into its type.

    Raises:
        ValueError: for another shape, another kind of numbers, or numbers that are not finite.
    """
    if tuple(column.shape[1:]) != form.shape or not column.ndim:
        raise ValueError(
            f"{name} has shape {list(column.shape)}, but the model was trained on "
            f"[N{''.join(f', {size}' for size in form.shape)}]"
        )
    if column.is_floating_point() and not form.kind.is_floating_point:
        raise ValueError(f"{name} is {column.dtype}, but the model was trained on {form.dtype}")
    bad = ~torch.isfinite(column).reshape(len(column), -1).all(1)
    if bad.any():
        raise ValueError(f"{name}, row {int(bad.nonzero()[0])}: NaN or infinity; clean the data")
    return column.to(form.kind)


def fit_columns(
    inputs: Tensor | Mapping[str, Tensor], forms: Mapping[str, ColumnForm]
) -> TableRows:
    """Make rows of columns; a single one need not be named.

    Raises:
        ValueError: if names or columns do not fit.
    """
    if isinstance(inputs, Tensor):
        if len(forms) > 1:
            raise ValueError(
                f"the model takes the columns {list(forms)}; give them by name: "
                "predict({" + ", ".join(f"{name!r}: ..." for name in forms) + "})"
            )
        inputs = dict.fromkeys(forms, inputs)
    missing = [name for name in forms if name not in inputs]
    if missing:
        raise ValueError(f"columns {missing} are missing; the model takes {list(forms)}")
    columns = {name: fit_column(name, inputs[name], form) for name, form in forms.items()}
    sizes = {name: len(column) for name, column in columns.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"columns have lengths {sizes}; give one entry a row in every column")
    return TableRows(columns, torch.arange(next(iter(sizes.values()))))


def forms_to_json(forms: Mapping[str, ColumnForm]) -> dict[str, Any]:
    """Write forms as plain data."""
    return {name: {"shape": list(one.shape), "dtype": one.dtype} for name, one in forms.items()}


def forms_from_json(raw: Mapping[str, Any]) -> dict[str, ColumnForm]:
    """Read what ``forms_to_json`` wrote.

    Raises:
        ValueError: for a type that torch does not have.
    """
    forms = {name: ColumnForm(tuple(one["shape"]), one["dtype"]) for name, one in raw.items()}
    wrong = [
        one for one in forms.values() if not isinstance(vars(torch).get(one.dtype), torch.dtype)
    ]
    if wrong:
        raise ValueError(f"columns of {wrong}, types that torch has not")
    return forms


@dataclass(frozen=True)
class NamedAdapter:
    """Columns of a module of one's own, which nobody scaled; from Python alone.

    Args:
        forms: of its columns.
    """

    forms: Mapping[str, ColumnForm]

    def config(self) -> Mapping[str, Any]:
        return {"kind": "named", "forms": forms_to_json(self.forms)}

    def read(self, path: Path, columns: Columns, /) -> Dataset:
        raise ValueError(
            f"{path} cannot be read for this model, which takes the columns {list(self.forms)}; "
            "from Python: moiety.load_model(folder, module).predict({...})"
        )

    def open(self, x: Inputs, edges: Tensor | None, check: object, /) -> Rows:
        del check
        refuse_edges(edges)
        return fit_columns(x, self.forms)

    def draw(self, count: int, shape: tuple[int, ...], rng: Generator, /) -> Tensor:
        del shape
        if len(self.forms) > 1:
            raise ValueError(
                f"this model takes the columns {list(self.forms)}, but a file of one input is "
                "written; trace your own module with the saved values (docs/tutorials.md)"
            )
        (form,) = self.forms.values()
        return torch.randn((count, *form.shape), generator=rng).to(form.kind)

    def answers(
        self, told: Iterable[Tensor], data: Dataset, objective: Objective, /
    ) -> Predictions:
        return predict_rows(told, data, objective)
