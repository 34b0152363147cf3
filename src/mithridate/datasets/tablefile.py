"""A table of the user's, from CSV or Parquet files: its cells as text, and where each of them stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mithridate.datasets.csvfile import Grid, read_csv
from mithridate.datasets.features import near
from mithridate.datasets.images import MAX_BYTES
from mithridate.datasets.rows import Integers
from mithridate.errors import AbsentError, DataError

TEXT_FILES = (".csv", ".tsv", ".txt")
PARQUET_FILES = (".parquet", ".pq")
MISSING = ("", "na", "n/a", "#n/a", "nan", "null", "-nan", "<na>")
"""What stands for a missing value, in capitals or not."""
_NUMBER = r"(?i)^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|infinity)$"


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """A column, told by its different texts."""

    texts: tuple[str, ...]
    """The different values, in the order in which they come first."""
    codes: Integers
    """``(N,)``: which of them every row holds; -1 where a value is missing."""
    numbers: NDArray[np.float64]
    """What each of the ``texts`` is as a number; NaN where it is none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Records:
    """The rows of one file, or of a training and a test file, one after the other."""

    place: str
    """What to call them in a sentence."""
    columns: Mapping[str, Any]
    """Arrow arrays of ``N`` values by name."""
    places: tuple[str, ...]
    """What to call each file."""
    part: Integers
    """``(N,)``: which file every row is of."""
    numbers: Integers
    """``(N,)``: its number there as people count."""
    countings: tuple[str, ...]
    """How these numbers count in each file."""
    ids: Integers
    """``(N,)``: its number among the rows of its file, from 0."""

    def where(self, row: int) -> str:
        """The place of a row, for a sentence."""
        part = int(self.part[row])
        return f"{self.places[part]}, row {self.numbers[row]} ({self.countings[part]})"

    def cells(self, name: str) -> Cells:
        """A column by its different texts. Raises :class:`DataError` for columns of lists and the like."""
        return _cells(self.columns[name], f"{self.place}: column '{name}'")

    def at(self, positions: Integers) -> Records:
        """The rows at ``positions`` ``(n,)``."""
        taken = pa.array(positions)
        return replace(
            self,
            columns={name: each if _is_nested(each.type) else each.take(taken) for name, each in self.columns.items()},
            part=self.part[positions],
            numbers=self.numbers[positions],
            ids=self.ids[positions],
        )


def read_table(file: Path, *, separator: str, decimal: str) -> Records:
    """The rows of a CSV or Parquet file. Raises :class:`DataError` with what keeps it from being a table."""
    if file.is_dir():
        raise DataError(f"{file} is a folder; name the CSV or Parquet file in it")
    if not file.exists():
        raise AbsentError(f"there is no file {file}")
    suffix = file.suffix.lower()
    if suffix not in (*TEXT_FILES, *PARQUET_FILES):
        raise DataError(
            f"{file} ends in '{suffix}'; a table must be a file of {', '.join((*TEXT_FILES, *PARQUET_FILES))} "
            "(spreadsheets: save it as 'CSV UTF-8')"
        )
    try:
        grid = read_csv(file, separator=separator, decimal=decimal) if suffix in TEXT_FILES else _read_parquet(file)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error
    _check_names(grid, file)
    records = Records(
        place=str(file),
        columns=dict(zip(grid.names, grid.columns, strict=True)),
        places=(str(file),),
        part=np.zeros(len(grid.numbers), dtype=np.int64),
        numbers=grid.numbers,
        countings=(grid.counting,),
        ids=np.arange(len(grid.numbers)),
    )
    return _without_index(records)


def joined(train: Records, test: Records) -> Records:
    """Training rows, then test rows, in the columns of the training file.

    Raises :class:`DataError` where the test file lacks one of them.
    """
    lacking = next((name for name in train.columns if name not in test.columns), None)
    if lacking is not None:
        raise DataError(
            f"{test.place} has no column '{lacking}', which {train.place} has; {near(lacking, list(test.columns))}"
        )
    return Records(
        place=f"{train.place} and {test.place}",
        columns={name: _both(train.columns[name], test.columns[name]) for name in train.columns},
        places=train.places + test.places,
        part=np.concatenate([train.part, test.part + 1]),
        numbers=np.concatenate([train.numbers, test.numbers]),
        countings=train.countings + test.countings,
        ids=np.concatenate([train.ids, test.ids]),
    )


def _both(first: Any, second: Any) -> Any:
    """The values of both arrays, as text where their types differ; lists and the like alone, to be refused if used."""
    nested = next((each for each in (first, second) if _is_nested(each.type)), None)
    if nested is not None:
        return nested
    if first.type != second.type:
        first, second = pc.cast(first, pa.string()), pc.cast(second, pa.string())
    return pa.chunked_array([chunk for each in (first, second) for chunk in each.chunks], type=first.type)


def _read_parquet(path: Path) -> Grid:
    """The cells of a Parquet file, as it holds them."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as opened:
            unpacked = sum(opened.metadata.row_group(k).total_byte_size for k in range(opened.metadata.num_row_groups))
            if unpacked > MAX_BYTES:
                raise DataError(f"{path} unpacks to {unpacked} bytes, more than the {MAX_BYTES} held in memory")
            table = opened.read()
    except (pa.ArrowException, OSError, ValueError, TypeError, MemoryError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise DataError(f"{path} cannot be read as Parquet (damaged, cut short or another format): {reason}") from error
    if len(table) == 0:
        raise DataError(f"{path} has no rows")
    return Grid(
        names=tuple(table.column_names),
        columns=tuple(table.columns),
        numbers=np.arange(1, len(table) + 1),
        counting="the first is row 1",
    )


def _check_names(grid: Grid, file: Path) -> None:
    repeated = next((name for name in grid.names if name and grid.names.count(name) > 1), None)
    if repeated is not None:
        at = [str(k + 1) for k, name in enumerate(grid.names) if name == repeated]
        raise DataError(f"{file}: columns {' and '.join(at)} are both called '{repeated}'; give them different names")
    unnamed = [k for k, name in enumerate(grid.names) if not name]
    if len(unnamed) > 1 or (unnamed and unnamed[0] > 0):
        raise DataError(f"{file}: column {unnamed[-1] + 1} has no name in the header; give it one, or leave it out")


def _without_index(records: Records) -> Records:
    """Without the columns that data frames save their row numbers in: one without a name, ``__index_level_0__``."""
    if "" in records.columns and len(records.cells("").texts) < len(records.ids):
        raise DataError(f"{records.place}: column 1 has no name in the header; give it one, or leave it out")
    kept = {key: each for key, each in records.columns.items() if key and not key.startswith("__index_level_")}
    return replace(records, columns=kept)


def _is_nested(kind: Any) -> bool:
    return bool(pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _cells(column: Any, place: str) -> Cells:
    if _is_nested(column.type):
        raise DataError(f"{place} holds {str(column.type)[:80]}, but numbers or texts are needed; add it to ignore")
    try:
        texts = pc.utf8_trim_whitespace(pc.cast(column, pa.string()))
    except (pa.ArrowException, NotImplementedError) as error:
        reason = str(error).splitlines()[0][:100]
        raise DataError(
            f"{place} holds {str(column.type)[:80]}, which cannot be read: {reason}; add it to ignore"
        ) from error
    void = pc.is_in(pc.utf8_lower(texts), value_set=pa.array(MISSING))
    encoded = pc.if_else(void, pa.scalar(None, pa.string()), texts).combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return Cells(
        texts=tuple(encoded.dictionary.to_pylist()),
        codes=codes,
        numbers=_numbers(encoded.dictionary),
    )


def _numbers(texts: Any) -> NDArray[np.float64]:
    """Texts as numbers ``(n,)``, NaN where they are none."""
    numeric = pc.match_substring_regex(texts, _NUMBER)
    numbers = pc.cast(pc.if_else(numeric, texts, pa.scalar(None, pa.string())), pa.float64())
    found: NDArray[np.float64] = pc.fill_null(numbers, float("nan")).to_numpy(zero_copy_only=False)
    return found
