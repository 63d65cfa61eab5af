"""How the columns of a table become numbers: fitted on training rows, kept with the model.

A number stays as it is, and a missing one is the mean of training; where training had missing
ones, a further number says so. A date is its days since 1970, and its places in the year and, where
it has a time, in the day. A category is a number for each value that training had, 1 where it is
this one; one that training did not have is 0 in all. Letters: N rows, D numbers of a row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from moiety.data.columns import Column

MOST = 100
"""Values of a category that get a number of their own: the most frequent."""

YEAR = 365.2425


class ColumnEncoding(Protocol):
    """How one column becomes numbers."""

    kind: ClassVar[str]

    @property
    def name(self) -> str:
        """The column."""
        ...

    @property
    def as_text(self) -> bool:
        """Whether the column is to be read as it stands, not as the numbers that it may look."""
        ...

    def names(self) -> Sequence[str]:
        """Name the numbers."""
        ...

    def measures(self) -> Sequence[bool]:
        """Tell measures, which are standardised, from what says yes or no."""
        ...

    def fit(self, column: Column, rows: np.ndarray | None, /) -> ColumnEncoding:
        """Fit to some rows, or to all of them."""
        ...

    def apply(self, column: Column, /) -> np.ndarray:
        """Make the numbers, float32 [N, names]."""
        ...


@dataclass(frozen=True)
class NumberEncoding:
    """A number, and whether it was missing.

    Args:
        name: of the column.
        fill: what a missing one is taken for.
        gaps: whether training had missing ones, so that a further number says so.
    """

    kind: ClassVar[str] = "number"
    name: str
    fill: float = 0.0
    gaps: bool = False

    @property
    def as_text(self) -> bool:
        return False

    def names(self) -> Sequence[str]:
        return [self.name, f"{self.name} is missing"] if self.gaps else [self.name]

    def measures(self) -> Sequence[bool]:
        return [True, False] if self.gaps else [True]

    def fit(self, column: Column, rows: np.ndarray | None, /) -> ColumnEncoding:
        known = choose_rows(column.numbers(), rows)
        there = known[~np.isnan(known)]
        return NumberEncoding(self.name, average(there), gaps=len(there) < len(known))

    def apply(self, column: Column, /) -> np.ndarray:
        values = column.numbers()
        missing = np.isnan(values)
        filled = np.where(missing, self.fill, values)
        return np.stack([filled, missing][: len(self.names())], 1).astype(np.float32)


@dataclass(frozen=True)
class DateEncoding:
    """A date.

    Args:
        name: of the column.
        form: how dates are written, as strptime has it; empty where the file has dates as such.
        fill: what a missing one is taken for, in days since 1970-01-01.
        clock: whether training had times of the day.
    """

    kind: ClassVar[str] = "date"
    name: str
    form: str
    fill: float = 0.0
    clock: bool = False

    @property
    def as_text(self) -> bool:
        return bool(self.form)

    def names(self) -> Sequence[str]:
        of_day = ("sine of day", "cosine of day") if self.clock else ()
        return [self.name] + [
            f"{self.name}: {one}" for one in ("sine of year", "cosine of year", *of_day)
        ]

    def measures(self) -> Sequence[bool]:
        return [True] * len(self.names())

    def fit(self, column: Column, rows: np.ndarray | None, /) -> ColumnEncoding:
        known = choose_rows(column.days(self.form), rows)
        there = known[~np.isnan(known)]
        return DateEncoding(self.name, self.form, average(there), bool((there % 1 > 0).any()))

    def apply(self, column: Column, /) -> np.ndarray:
        days = column.days(self.form)
        days = np.where(np.isnan(days), self.fill, days)
        turns = [days / YEAR, days] if self.clock else [days / YEAR]
        waves = [wave(2 * np.pi * turn) for turn in turns for wave in (np.sin, np.cos)]
        return np.stack([days, *waves], 1).astype(np.float32)


@dataclass(frozen=True)
class CategoryEncoding:
    """A category: a number for each value of training.

    Args:
        name: of the column.
        values: in their order; a missing value is None, and one of them where training had some.
    """

    kind: ClassVar[str] = "category"
    name: str
    values: tuple[str | None, ...] = ()

    @property
    def as_text(self) -> bool:
        return True

    def names(self) -> Sequence[str]:
        return [
            f"{self.name} is missing" if value is None else f"{self.name}: {value}"
            for value in self.values
        ]

    def measures(self) -> Sequence[bool]:
        return [False] * len(self.values)

    def fit(self, column: Column, rows: np.ndarray | None, /) -> ColumnEncoding:
        counts = Counter(choose_rows(np.array(column.words(), dtype=object), rows).tolist())
        often = sorted(counts, key=lambda word: (-counts[word], word or ""))[:MOST]
        words = sorted(word for word in often if word is not None)
        return CategoryEncoding(self.name, (*words, *([None] if None in often else [])))

    def apply(self, column: Column, /) -> np.ndarray:
        place = {value: number for number, value in enumerate(self.values)}
        words, at = column.index_words()
        found = np.array([place.get(word, -1) for word in words], dtype=np.int64)[at]
        return (found[:, None] == np.arange(len(self.values))).astype(np.float32)


class Encoding(Protocol):
    """How the columns of a table become rows."""

    unit: ClassVar[str]
    """What rows are made of."""

    @property
    def needed(self) -> Mapping[str, bool]:
        """The columns that are read, and whether as they stand."""
        ...

    @property
    def vocabulary(self) -> int:
        """How many words rows are told apart by; 0 where they are no words."""
        ...

    def names(self) -> tuple[str, ...]:
        """Name the numbers of a row; words have no names."""
        ...

    def measures(self) -> Tensor:
        """Tell measures from what says yes or no, bool [D]; empty where no number measures."""
        ...

    def fit(self, columns: Mapping[str, Column], rows: np.ndarray | None = None) -> Encoding:
        """Fit to some rows of the same columns, or to all of them."""
        ...

    def apply(self, columns: Mapping[str, Column]) -> Tensor:
        """Make rows of columns, [N, ...].

        Raises:
            ValueError: for a value that cannot be read; says which.
        """
        ...

    def to_json(self) -> Mapping[str, Any]:
        """Write as plain data."""
        ...


@dataclass(frozen=True)
class ColumnsEncoding:
    """Numbers of several columns beside each other, float32 [N, D]."""

    kind: ClassVar[str] = "columns"
    unit: ClassVar[str] = "numbers"
    columns: tuple[ColumnEncoding, ...]

    @property
    def needed(self) -> Mapping[str, bool]:
        return {one.name: one.as_text for one in self.columns}

    @property
    def vocabulary(self) -> int:
        return 0

    def names(self) -> tuple[str, ...]:
        return tuple(name for one in self.columns for name in one.names())

    def measures(self) -> Tensor:
        return torch.tensor([flag for one in self.columns for flag in one.measures()])

    def fit(self, columns: Mapping[str, Column], rows: np.ndarray | None = None) -> ColumnsEncoding:
        return ColumnsEncoding(tuple(one.fit(columns[one.name], rows) for one in self.columns))

    def apply(self, columns: Mapping[str, Column]) -> Tensor:
        parts = [one.apply(columns[one.name]) for one in self.columns]
        return torch.from_numpy(np.concatenate(parts, 1))

    def to_json(self) -> Mapping[str, Any]:
        columns = [{"kind": one.kind, **asdict(one)} for one in self.columns]  # type: ignore[call-overload]
        return {"kind": self.kind, "columns": columns}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> ColumnsEncoding:
        """Read what ``to_json`` wrote."""
        return cls(tuple(build_column(one) for one in raw["columns"]))


ENCODINGS: Mapping[str, Callable[..., ColumnEncoding]] = {
    NumberEncoding.kind: NumberEncoding,
    DateEncoding.kind: DateEncoding,
    CategoryEncoding.kind: lambda name, values: CategoryEncoding(name, tuple(values)),
}


def build_column(raw: Mapping[str, Any]) -> ColumnEncoding:
    """Build the encoding of a column from plain data."""
    return ENCODINGS[raw["kind"]](**{name: value for name, value in raw.items() if name != "kind"})


def choose_rows(values: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    """Take the rows that are fitted on."""
    return values if rows is None else values[rows]


def average(values: np.ndarray) -> float:
    """Average; 0 where there is nothing."""
    return float(values.mean()) if len(values) else 0.0
