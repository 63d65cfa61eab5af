"""One column of a table as Arrow holds it, read as numbers, dates or words.

A missing value is NaN among numbers and dates, and None among words. Letters: N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moiety.core.extras import import_extra
from moiety.data.classes import MISSING, decode_label

GAPS = MISSING | {"?", "."}
"""Words that stand for a missing value in features, blanks stripped."""

DAY_S = 86_400

FORMATS = (
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S",
    "%Y/%m/%d",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d %H:%M:%S",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%m/%d/%y",
    "%d.%m.%Y",
    "%d.%m.%Y %H:%M",
    "%b %d %Y",
    "%b-%d-%Y",
    "%d-%b-%Y",
    "%d %b %Y",
)
"""How dates are written, as strptime has it; month before day where both would do."""


def import_arrow(part: str = "") -> Any:
    """Import pyarrow, or a part of it."""
    return import_extra(f"pyarrow.{part}" if part else "pyarrow", "reading tables")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        path: the file, for messages.
        name: of the column.
        data: a chunked array of Arrow, [N].
    """

    path: Path
    name: str
    data: Any

    @property
    def is_number(self) -> bool:
        """Whether the type is one of numbers; a column without any value has the type null."""
        types = import_arrow().types
        tests = types.is_integer, types.is_floating, types.is_boolean, types.is_decimal
        return any(test(self.data.type) for test in (*tests, types.is_null))

    @property
    def is_date(self) -> bool:
        """Whether the type is one of dates."""
        types = import_arrow().types
        return types.is_date(self.data.type) or types.is_timestamp(self.data.type)

    @property
    def is_text(self) -> bool:
        """Whether the type is one of text, bytes of it included."""
        kind, types = self.data.type, import_arrow().types
        if types.is_dictionary(kind):
            kind = kind.value_type
        tests = types.is_string, types.is_large_string, types.is_binary, types.is_large_binary
        return any(test(kind) for test in (*tests, types.is_string_view))

    def numbers(self) -> np.ndarray:
        """Read numbers, float64 [N].

        Raises:
            ValueError: for an infinite one, one that float32 cannot hold, and for other words.
        """
        if not self.is_number:
            return self.check(self.parse())
        types = import_arrow().types
        plain = types.is_integer(self.data.type) or types.is_floating(self.data.type)
        if plain and not self.data.null_count:
            return self.check(self.data.to_numpy().astype(np.float64))
        found = [np.nan if value is None else float(value) for value in self.data.to_pylist()]
        return self.check(np.array(found, dtype=np.float64))

    def parse(self) -> np.ndarray:
        """Read words as the numbers that they are, float64 [N]."""
        values = np.full(len(self.data), np.nan)
        for row, word in enumerate(self.words()):
            try:
                values[row] = np.nan if word is None else float(word)
            except ValueError as error:
                raise ValueError(
                    f"{self.path}: column {self.name!r} is {word!r} in row {row + 1}, where a "
                    "number is read; mend it, or leave it empty"
                ) from error
        return values

    def check(self, values: np.ndarray) -> np.ndarray:
        """Refuse numbers that float32 cannot hold."""
        with np.errstate(over="ignore"):
            bad = np.isinf(values.astype(np.float32))
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(
                f"{self.path}: column {self.name!r} is {values[row]} in row {row + 1} (the header "
                "is not counted), too large for single precision; mend it, or leave it empty"
            )
        return values

    def words(self) -> list[str | None]:
        """Read words without the blanks around them, [N].

        Raises:
            ValueError: for bytes that are not UTF-8, and for what is neither text nor numbers.
        """
        known, place = self.index_words()
        return [known[at] for at in place.tolist()]

    def index_words(self) -> tuple[list[str | None], np.ndarray]:
        """Read the distinct words, and the place of each row's among them, [N]."""
        if not (self.is_text or self.is_number or self.is_date):
            raise ValueError(
                f"{self.path}: column {self.name!r} holds {self.data.type}, which is neither text "
                "nor numbers; leave it out (--drop)"
            )
        arrow = import_arrow()
        plain = arrow.chunked_array([self.data.combine_chunks()])
        if arrow.types.is_dictionary(plain.type):
            plain = plain.cast(plain.type.value_type)
        coded = plain.dictionary_encode().combine_chunks()
        place = coded.indices.fill_null(len(coded.dictionary)).to_numpy(zero_copy_only=False)
        known: list[str | None] = []
        for at, value in enumerate(coded.dictionary.to_pylist()):
            row = int((place == at).argmax()) + 1 if isinstance(value, bytes) else 0
            known.append(
                strip_word(decode_label(self.path, self.name, row, value) if row else value)
            )
        return [*known, None], place

    def count_missing(self) -> int:
        """Count the rows without a value."""
        if self.is_number:
            return int(np.isnan(self.numbers()).sum())
        return self.words().count(None) if self.is_text else self.data.null_count

    def days(self, form: str) -> np.ndarray:
        """Read dates as days since 1970-01-01, float64 [N].

        Args:
            form: how they are written, where they are text.

        Raises:
            ValueError: for text that is no date of that form.
        """
        if self.is_date:
            seconds = self.data.cast(import_arrow().timestamp("us")).cast("int64")
            found = [np.nan if one is None else one / 1e6 / DAY_S for one in seconds.to_pylist()]
            return np.array(found, dtype=np.float64)
        words = self.words()
        days = parse_days(words, form)
        for row, (word, day) in enumerate(zip(words, days, strict=True), 1):
            if word is not None and np.isnan(day):
                raise ValueError(
                    f"{self.path}: column {self.name!r} is {word!r} in row {row}, but dates are "
                    f"written {form} in training; mend it, or leave it empty"
                )
        return days

    def find_date_form(self) -> str | None:
        """Find how the dates of a column of text are written; None where they are no dates."""
        filled = [word for word in self.index_words()[0] if word is not None]
        if not filled or not any(letter.isdigit() for letter in filled[0]):
            return None
        fit = (
            form
            for form in FORMATS
            if not np.isnan(parse_days(filled[:20], form)).any()
            and not np.isnan(parse_days(filled, form)).any()
        )
        return next(fit, None)

    def holds_numbers(self) -> bool:
        """Tell whether every word that is there is a number."""
        compute, arrow = import_arrow("compute"), import_arrow()
        filled = [word for word in self.index_words()[0] if word is not None]
        try:
            compute.cast(arrow.array(filled, arrow.string()), arrow.float64())
        except arrow.ArrowInvalid:
            return False
        return bool(filled)


def strip_word(value: Any) -> str | None:
    """Give a value as a word without the blanks around it; None where it is missing."""
    word = "" if value is None or value != value else str(value).strip()
    return None if word in GAPS else word


def parse_days(words: Sequence[str | None], form: str) -> np.ndarray:
    """Read dates as days since 1970-01-01, NaN where a word is none of the form.

    >>> parse_days(["1970/01/02", "x", None], "%Y/%m/%d").tolist()
    [1.0, nan, nan]
    """
    compute, arrow = import_arrow("compute"), import_arrow()
    found = compute.strptime(
        arrow.array(words, arrow.string()), format=form, unit="s", error_is_null=True
    )
    seconds = found.cast(arrow.int64()).to_pylist()
    return np.array([np.nan if one is None else one / DAY_S for one in seconds], dtype=np.float64)
