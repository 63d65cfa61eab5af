"""Which columns of a table are taken as features, and as what."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from moiety.data.columns import Column
from moiety.data.documents import DocumentEncoding, are_texts
from moiety.data.encoding import (
    CategoryEncoding,
    ColumnEncoding,
    ColumnsEncoding,
    DateEncoding,
    Encoding,
    NumberEncoding,
)

FEW = 10
"""Words of a column that are a category, however few rows there are."""


def choose_encoding(
    columns: Mapping[str, Column], wanted: Collection[str] = ()
) -> tuple[Encoding, list[str]]:
    """Choose how columns become numbers, fitted to all rows.

    Args:
        columns: of the features, in order.
        wanted: names of columns of which none is left out, however many values they have.

    Returns:
        The encoding, and sentences on what is left out and what is missing.
    """
    chosen: list[ColumnEncoding] = []
    notes: list[str] = []
    if len(columns) == 1 and holds_texts(only := next(iter(columns.values()))):
        return DocumentEncoding(only.name).fit(columns), notes
    for name, column in columns.items():
        reason = "" if name in wanted else find_reason_to_leave(column)
        notes += [f"column {name!r} {reason}"] if reason else []
        chosen += [] if reason else [choose_column(column)]
    return ColumnsEncoding(tuple(chosen)).fit(columns), notes + note_gaps(columns, chosen)


def holds_texts(column: Column) -> bool:
    """Tell a column of texts: words that are another one in most rows, several in each."""
    if not column.is_text or holds_numbers(column) or find_date_form(column) is not None:
        return False
    words = column.words()
    return is_mostly_distinct(words) and are_texts(words)


def choose_column(column: Column) -> ColumnEncoding:
    """Choose how one column becomes numbers."""
    if holds_numbers(column):
        return NumberEncoding(column.name)
    form = find_date_form(column)
    return CategoryEncoding(column.name) if form is None else DateEncoding(column.name, form)


def holds_numbers(column: Column) -> bool:
    """Tell numbers, also where they stand among blanks."""
    return column.is_number or (column.is_text and column.holds_numbers())


def find_date_form(column: Column) -> str | None:
    """Find how dates are written, nothing where the file has them as such; None for no dates."""
    if column.is_date:
        return ""
    return column.find_date_form() if column.is_text else None


def find_reason_to_leave(column: Column) -> str:
    """Say why a column is left out; nothing where it is not."""
    if not (column.is_number or column.is_date or column.is_text):
        return f"holds {column.data.type}, and is left out"
    if column.count_missing() == len(column.data):
        return "has no value, and is left out"
    if holds_numbers(column) or find_date_form(column) is not None:
        return ""
    words = column.words()
    if not is_mostly_distinct(words):
        return ""
    if are_texts(words):
        return (
            f"holds texts, and is left out (--features {column.name} reads it alone, by --net bag, "
            "encoder or pretrained)"
        )
    return (
        f"has {len(set(words))} values in {len(words)} rows: taken for names, and left out "
        "(--features takes it in)"
    )


def is_mostly_distinct(words: Sequence[str | None]) -> bool:
    """Tell names and free text from categories: in most rows another value, and more than few."""
    count = len(set(words))
    return count > FEW and 2 * count > len(words)


def note_gaps(columns: Mapping[str, Column], chosen: Sequence[ColumnEncoding]) -> list[str]:
    """Say in which columns values are missing, in one sentence."""
    gaps = {one.name: columns[one.name].count_missing() for one in chosen}
    worst = sorted((name for name in gaps if gaps[name]), key=lambda name: -gaps[name])
    if not worst:
        return []
    named = ", ".join(f"{name!r} in {gaps[name]} rows" for name in worst[:3])
    more = f" and {len(worst) - 3} other columns" if len(worst) > 3 else ""
    return [
        f"values are missing of {named}{more}: a missing number is taken for the mean of training, "
        "a missing word is a value of its own"
    ]
