"""Where data sets of tables and texts are looked for, and how their Parquet files are read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mithridate.errors import AbsentError, DataError


def folders() -> list[Path]:
    """Where to look, in order: the folder that ``MITHRIDATE_DATA`` names, then the cache."""
    data, cache = os.environ.get("MITHRIDATE_DATA"), os.environ.get("MITHRIDATE_CACHE")
    return [Path(each).expanduser() for each in (data, cache or "~/.cache/mithridate") if each]


def found(path: str) -> Path | None:
    """The first file called ``path`` below those folders; None where none is there."""
    return next((file for folder in folders() if (file := folder / path).is_file()), None)


def needed(path: str, *, title: str, origin: str) -> Path:
    """The first file called ``path`` below those folders.

    Raises :class:`AbsentError` saying where to put it; ``origin`` is where it comes from.
    """
    file = found(path)
    if file is None:
        places = " or ".join(map(str, folders()))
        raise AbsentError(
            f"{title} was not found: there is no {path} in {places}; put it there, or name the folder above such a one "
            f"in MITHRIDATE_DATA (the data: {origin})"
        )
    return file


def read_columns(file: Path, types: Mapping[str, Any], *, rows: int) -> Any:
    """The Arrow table of the columns named in ``types``, in those types.

    Raises :class:`DataError` where the file is damaged, or is not the one of so many ``rows`` that is looked for.
    """
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as opened:
            table = opened.read()
        lacking = next((name for name in types if table.column_names.count(name) != 1), None)
        if lacking is not None:
            raise DataError(f"{file} has no single column '{lacking}'; it is not the file that is looked for")
        if len(table) != rows:
            raise DataError(f"{file} holds {len(table)} rows, but {rows} are expected")
        table = table.select(list(types)).cast(pa.schema(list(types.items())))
    except (pa.ArrowException, OSError, ValueError, TypeError, MemoryError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise DataError(f"{file} cannot be read as that Parquet file (damaged, or another): {reason}") from error
    void = next((name for name in types if table.column(name).null_count), None)
    if void is not None:
        raise DataError(f"{file}: column '{void}' has missing values, but the data set has none")
    return table
