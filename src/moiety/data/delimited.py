"""Separated values (CSV and its kin): what separates them, whether there is a header, the columns.

The first lines decide. Nothing is guessed in silence: what was found beside the usual is noted.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
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

DECIMALS = 1000
"""Lines that are looked at for how fractions are written."""

LONGEST = 1 << 24
"""Characters of a value among the first lines; a quote that is never closed ends here."""

PIECE = 1 << 20

BLOCK = 2 * LONGEST
"""Bytes that Arrow reads at once: a row has to fit."""

COMMA, POINT = re.compile(r"[+-]?\d+,\d+"), re.compile(r"[+-]?\d+\.\d+")
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
"""What may also be a whole number in groups of three (``1,234``)."""


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
        decimal: between a number and its fraction.
    """

    separator: str
    quote: str
    names: tuple[str, ...]
    skip: int = 0
    notes: tuple[str, ...] = ()
    decimal: str = "."


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
    layout = find_header(path, Layout(separator, quote, ()), rows, skip)
    return find_decimal(path, layout)


def find_header(path: Path, layout: Layout, rows: Sequence[Sequence[str]], skip: int) -> Layout:
    """Find the names of columns in the first rows.

    Raises:
        ValueError: if they are no text, or if the first of them names too few columns.
    """
    if any("\0" in cell for row in rows for cell in row):
        raise ValueError(f"{path} holds bytes of value 0, as no text does; save it as CSV in UTF-8")
    first, *others = rows or [[]]
    if is_row_of_numbers(first):
        names = tuple(f"column{place}" for place in range(1, len(first) + 1))
        note = (
            f"{path.name} has no header, for its first line holds numbers alone: its columns are "
            f"called {names[0]} to {names[-1]}"
        )
        return replace(layout, names=names, skip=skip - 1, notes=(note,))
    names = [cell.strip() for cell in first]
    if others and all(len(row) == len(names) + 1 and row[-1] for row in others):
        names = ["", *names]  # as R writes row names: no cell in the header stands over them
    width = len(others[0]) if others else len(names)
    if width > len(names) and all(len(row) == width for row in others):
        raise ValueError(
            f"{path}: its first line has {len(names)} values, {first[:4]}, but the others have "
            f"{width}; make it a line that names the columns"
        )
    return replace(layout, names=tuple(names), skip=skip)


def find_decimal(path: Path, layout: Layout) -> Layout:
    """Find whether fractions have a comma, and note it: some have one, and none has a point.

    Where a comma separates values none has; ``1,234`` alone, which may be a thousand, is no sign.
    """
    if layout.separator == ",":
        return layout
    rows, _ = read_first_rows(path, layout.separator, layout.quote, DECIMALS)
    cells = [cell.strip() for row in rows for cell in row]
    sure = (cell for cell in cells if COMMA.fullmatch(cell) and not THOUSANDS.fullmatch(cell))
    example = next(sure, None)
    if example is None or any(POINT.fullmatch(cell) for cell in cells):
        return layout
    note = f"{path.name} writes fractions with a comma ({example!r}), and is read so"
    return replace(layout, decimal=",", notes=(*layout.notes, note))


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


@contextmanager
def allow_long_values() -> Iterator[None]:
    """Let the library read values as long as documents are, and then as before."""
    before = csv.field_size_limit(LONGEST)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def read_first_rows(
    path: Path, separator: str, quote: str, most: int = SAMPLE
) -> tuple[list[list[str]], int]:
    """Read the first rows that are not empty, and say at which line the first of them ends."""
    try:
        with closing(open_text(path)) as file, allow_long_values():
            found = csv.reader(file, delimiter=separator, quotechar=quote, skipinitialspace=True)
            rows = (row for row in found if row)
            first = list(islice(rows, 1))
            line = found.line_num
            return [*first, *islice(rows, most)], line
    except csv.Error as error:
        raise ValueError(
            f"{path} is no CSV ({error}); close the quotes of its values, or cut them"
        ) from error
    except (UnicodeDecodeError, EOFError, OSError) as error:
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
                column_names=make_distinct(layout.names),
                skip_rows=layout.skip,
                block_size=BLOCK,
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=layout.separator, quote_char=layout.quote, newlines_in_values=True
            ),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=list(chosen),
                column_types=dict.fromkeys(as_text, arrow.binary()),
                null_values=sorted(GAPS),
                decimal_point=layout.decimal,
            ),
        )
    found = {name: Column(path, name, table.column(name)) for name in chosen}
    return found if layout.decimal == "." else {n: write_points(one) for n, one in found.items()}


def write_points(column: Column) -> Column:
    """Write fractions among words with a point, so that a value is one word in every file."""
    if not column.is_text:
        return column
    change = import_arrow("compute").replace_substring_regex
    points = change(column.data, pattern=r"^(\s*[+-]?\d+),(\d+\s*)$", replacement=r"\1.\2")
    return replace(column, data=points)


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
