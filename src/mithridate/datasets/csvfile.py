"""A CSV file as text: its header, its cells, and the number of every row as people count them."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from mithridate.datasets.rows import Integers
from mithridate.errors import ConfigError, DataError

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}
"""Those that are guessed among, first come first served where two would do."""
MAX_BYTES = 2**31 - 1
"""Of a CSV file: it is parsed as one block, whose size is a 32-bit number."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """The cells of a file, column by column."""

    names: tuple[str, ...]
    """What the columns are called."""
    columns: tuple[Any, ...]
    """A chunked Arrow array of ``N`` values for each column, strings where the file has no types."""
    numbers: Integers
    """``(N,)``: the number of every row as people count."""
    counting: str
    """How these numbers count, for a sentence."""


def check_separator(separator: str) -> None:
    """Raise :class:`ConfigError` for what does not separate values."""
    if separator not in ("auto", *SEPARATORS) and (len(separator) != 1 or separator in '"\r\n'):
        raise ConfigError(f"separator must be auto, {', '.join(SEPARATORS)} or one character, but it is {separator!r}")


def read_csv(path: Path, *, separator: str, decimal: str) -> Grid:
    """The cells of a CSV file with a header. Blank lines, and lines of empty cells, are passed over but counted.

    ``separator`` is ``auto``, a name or a character; ``decimal`` the sign before decimals. Raises :class:`DataError`
    with the line at fault where the text is empty, is no UTF-8, or has rows of another length than its header.
    """
    text = _text(path)
    body = text.lstrip("\r\n") + "\n"
    blank = len(text[: len(text) - len(body) + 1].splitlines())
    sign = _guessed(body, path) if separator == "auto" else SEPARATORS.get(separator, separator)
    names = _header(body, sign, path, separator)
    counting = f"the header is row {blank + 1}"
    table, numbers = _parsed(path, body, sign, len(names), blank, counting)
    columns = [pc.utf8_trim_whitespace(column) for column in table.columns]
    if decimal == ",":
        columns = [pc.replace_substring_regex(each, r"^([+-]?\d*),(\d+)$", r"\1.\2") for each in columns]
    full = np.zeros(len(table), dtype=bool)
    for column in columns:
        full |= pc.not_equal(column, "").to_numpy(zero_copy_only=False)
    full[0] = False  # the header
    if not full.any():
        raise DataError(f"{path} has a header, but no rows below it")
    return Grid(
        names=names,
        columns=tuple(column.filter(pa.array(full)) for column in columns),
        numbers=numbers[full],
        counting=counting,
    )


def _text(path: Path) -> str:
    data = path.read_bytes()
    if data[:4] == b"PAR1":
        raise DataError(f"{path} is a Parquet file; let its name end in .parquet")
    if b"\0" in data[:4096] and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path} is no text: it holds zero bytes; a CSV file is needed")
    if len(data) > MAX_BYTES:
        raise DataError(f"{path} has {len(data)} bytes, more than the {MAX_BYTES} of a CSV file; use Parquet")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path} is not UTF-8 text (line {line} holds the byte 0x{data[error.start]:02x}); save it as UTF-8 "
            "(spreadsheets call that 'CSV UTF-8')"
        ) from None
    if not text.strip():
        raise DataError(f"{path} is empty; a header and rows are needed")
    return text


def _guessed(text: str, path: Path) -> str:
    """The separator that cuts the header into most values; the first three rows tell those apart that are as good."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    widths = {sign: _widths(text, sign) for sign in SEPARATORS.values()}
    return max(widths, key=lambda sign: (len(set(widths[sign])) == 1 and widths[sign][0] > 1, widths[sign][0]))


def _widths(text: str, sign: str) -> list[int]:
    """How many values each of the first rows has."""
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=sign)
        return [len(row) for row, _ in zip(rows, range(4), strict=False) if row]
    except csv.Error:
        return [1]


def _header(text: str, sign: str, path: Path, separator: str) -> tuple[str, ...]:
    """The names of the columns."""
    try:
        names = tuple(name.strip() for name in next(csv.reader(io.StringIO(text, newline=""), delimiter=sign)))
    except csv.Error as error:
        raise DataError(f"{path}: the header cannot be read: {error}") from None
    if len(names) < 2:
        how = (
            f"set separator ({', '.join(SEPARATORS)})"
            if separator == "auto"
            else f"set another separator than {sign!r}"
        )
        raise DataError(
            f"{path} has one column only, '{names[0][:80]}'; a target and a feature are needed; if the file has "
            f"more, {how}"
        )
    if all(is_number(name) for name in names):
        raise DataError(
            f"{path} has no header: its first row holds only numbers ({', '.join(names[:5])[:80]}); put the names of "
            "the columns there"
        )
    return names


def is_number(text: str) -> bool:
    """Whether a name is one that people give to values rather than to columns."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parsed(path: Path, text: str, sign: str, width: int, blank: int, counting: str) -> tuple[Any, Integers]:
    """A table of strings, its header the first row, and the number of every row, ``blank`` lines being above them."""
    invalid: list[tuple[int, int, str]] = []

    def noted(row: Any) -> str:
        invalid.append((row.number, row.actual_columns, row.text))
        return "skip"

    data = text.encode()
    try:
        table = pacsv.read_csv(
            pa.BufferReader(data),
            read_options=pacsv.ReadOptions(use_threads=False, block_size=len(data) + 1, autogenerate_column_names=True),
            parse_options=pacsv.ParseOptions(
                delimiter=sign, newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=noted
            ),
            convert_options=pacsv.ConvertOptions(
                column_types={f"f{k}": pa.string() for k in range(width)}, strings_can_be_null=False
            ),
        )
    except (pa.ArrowException, ValueError) as error:
        raise DataError(f"{path} cannot be read as CSV: {str(error).splitlines()[0][:200]}") from error
    ragged = next((row for row in invalid if row[2].strip()), None)
    if ragged is not None or table.num_columns != width:
        number, found, line = ragged or (1, table.num_columns, text)
        raise DataError(f"{path}: row {number + blank} ({counting}) has {_ragged(found, line, width)}")
    if text.count('"') % 2 and any("\n" in column[-1].as_py() for column in table.columns):
        last = len(table) + len(invalid) + blank
        raise DataError(f"{path}: row {last} ({counting}) opens a quotation mark that is never closed")
    numbers = np.delete(np.arange(1, len(table) + len(invalid) + 1), [number - 1 for number, _, _ in invalid])
    return table, numbers + blank


def _ragged(found: int, text: str, width: int) -> str:
    quotes = text.count('"') % 2
    return (
        f"{found} value{'s' if found != 1 else ''}, but the header names "
        f"{width} columns: {text.splitlines()[0][:80]!r}"
        + ("; a quotation mark is not closed" if quotes else "; put values that hold the separator in quotation marks")
    )
