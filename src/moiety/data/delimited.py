"""Separated values (CSV and its kin): what separates them, whether there is a header, the columns.

The first lines decide. Nothing is guessed in silence: what was found beside the usual is noted.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import IO, Any, cast

from moiety.core.files import refuse_damage
from moiety.data.classes import MEASURE
from moiety.data.columns import GAPS, Column, import_arrow
from moiety.data.limits import check_unpacked_size

SEPARATORS = (",", "\t", ";", "|", " ")
SAMPLE = 20
"""Lines that are looked at."""

PIECE = 1 << 20


GZIP = b"\x1f\x8b"
"""The first bytes of a file packed by gzip."""


@dataclass(frozen=True)
class Layout:
    """How a file of separated values is laid out.

    Args:
        separator: between two values of a line.
        quote: around a value that holds a separator.
        names: of all columns, in order; empty for one without a name.
        skip: lines before the first row, the header among them.
        notes: what a reader should know of it.
    """

    separator: str
    quote: str
    names: tuple[str, ...]
    skip: int = 0
    notes: tuple[str, ...] = ()


def find_layout(path: Path) -> Layout:
    """Look at the first lines of a file.

    Raises:
        ValueError: if it is no text in UTF-8.
    """
    refuse_packed(path)
    lines = {mark: read_first_rows(path, mark, '"')[0] for mark in SEPARATORS}
    separator, quote = choose_separator(lines), '"'
    if is_in_single_quotes((lines[separator] or [[]])[0]):
        quote = "'"
    rows, skip = read_first_rows(path, separator, quote)
    if any("\0" in cell for row in rows for cell in row):
        raise ValueError(f"{path} holds bytes of value 0, as no text does; save it as CSV in UTF-8")
    first, *others = rows or [[]]
    if is_row_of_numbers(first):
        names = tuple(f"column{place}" for place in range(1, len(first) + 1))
        note = (
            f"{path.name} has no header, for its first line holds numbers alone: its columns are "
            f"called {names[0]} to {names[-1]}"
        )
        return Layout(separator, quote, names, skip - 1, (note,))
    names = [cell.strip() for cell in first]
    if others and all(len(row) == len(names) + 1 and row[-1] for row in others):
        names = ["", *names]  # as R writes row names: no cell in the header stands over them
    width = len(others[0]) if others else len(names)
    if width > len(names) and all(len(row) == width for row in others):
        raise ValueError(
            f"{path}: its first line has {len(names)} values, {first[:4]}, but the others have "
            f"{width}; make it a line that names the columns"
        )
    return Layout(separator, quote, tuple(names), skip)


def refuse_packed(path: Path) -> None:
    """Refuse a packed file that is not named as one."""
    with path.open("rb") as file:
        packed = file.read(len(GZIP)) == GZIP
    if packed and path.suffix.lower() != ".gz":
        raise ValueError(f"{path} is packed by gzip; call it {path.name}.gz, or unpack it")


def open_text(path: Path) -> IO[str]:
    """Open a file, packed or not, as text."""
    if path.suffix.lower() == ".gz":
        packed = gzip.open(path, "rt", encoding="utf-8-sig", newline="")  # noqa: SIM115
        return cast("IO[str]", packed)
    return path.open(encoding="utf-8-sig", newline="")


def read_first_rows(path: Path, separator: str, quote: str) -> tuple[list[list[str]], int]:
    """Read the first rows that are not empty, and say at which line the first of them ends."""
    try:
        with closing(open_text(path)) as file:
            found = csv.reader(file, delimiter=separator, quotechar=quote, skipinitialspace=True)
            rows = (row for row in found if row)
            first = list(islice(rows, 1))
            line = found.line_num
            return [*first, *islice(rows, SAMPLE)], line
    except (UnicodeDecodeError, csv.Error, EOFError, OSError) as error:
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
            raise
        raise ValueError(f"{path} is not CSV in UTF-8 ({error}); save it so") from error


def is_in_single_quotes(cells: Sequence[str]) -> bool:
    """Tell whether every name stands in single quotes."""
    return bool(cells) and all(len(cell) > 1 and cell[0] == cell[-1] == "'" for cell in cells)


def choose_separator(lines: Mapping[str, Sequence[Sequence[str]]]) -> str:
    """Choose what cuts all first lines alike, into more than one value.

    >>> choose_separator({",": [["a;b"], ["1;2"]], ";": [["a", "b"], ["1", "2"]]})
    ';'
    """
    several = [mark for mark, rows in lines.items() if rows and len(rows[0]) > 1]
    for mark in several:
        first, *others = map(len, lines[mark])
        if len(set(others)) < 2 and set(others) <= {first, first + 1}:
            return mark
    return next((mark for mark in several if mark != " "), SEPARATORS[0])


def is_row_of_numbers(cells: Sequence[str]) -> bool:
    """Tell a line of numbers from a header; numbers that count up (0, 1, 2, or years) are one.

    >>> is_row_of_numbers(["5.1", "2"]), is_row_of_numbers(["a", "2"])
    (True, False)
    >>> is_row_of_numbers(["0", "1"]), is_row_of_numbers(["1990", "1991", "1992"])
    (False, False)
    """
    if not cells or not all(MEASURE.fullmatch(cell.strip()) for cell in cells):
        return False
    values = [float(cell) for cell in cells]
    counting = all(after == before + 1 for before, after in pairwise(values))
    return not (counting and (values[0] == 0 or len(values) > 2))


def read_delimited(
    path: Path, layout: Layout, chosen: Sequence[str], as_text: Collection[str]
) -> Mapping[str, Column]:
    """Read columns.

    Args:
        path: the file.
        layout: of it.
        chosen: names of the columns.
        as_text: those that are read as the bytes they are, so that none is changed by a cast.

    Raises:
        ValueError: for a line that does not fit; says which.
    """
    arrow, arrow_csv = import_arrow(), import_arrow("csv")
    with refuse_damage(f"{path} cannot be read as CSV", "mend that line"):
        table = arrow_csv.read_csv(
            open_bytes(path),
            read_options=arrow_csv.ReadOptions(
                column_names=make_distinct(layout.names), skip_rows=layout.skip
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=layout.separator, quote_char=layout.quote, newlines_in_values=True
            ),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=list(chosen),
                column_types=dict.fromkeys(as_text, arrow.binary()),
                null_values=sorted(GAPS),
            ),
        )
    return {name: Column(path, name, table.column(name)) for name in chosen}


def make_distinct(names: Sequence[str]) -> list[str]:
    """Give columns without a name one of their own, which nobody asks for."""
    return [name or f"\0{place}" for place, name in enumerate(names)]


def open_bytes(path: Path) -> Any:
    """Open a file for Arrow; a packed one is unpacked first, as far as its size allows."""
    if path.suffix.lower() != ".gz":
        return path
    whole = io.BytesIO()
    with gzip.open(path) as file:
        while piece := file.read(PIECE):
            whole.write(piece)
            check_unpacked_size(path, whole.tell())
    whole.seek(0)
    return whole
