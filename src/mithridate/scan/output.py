"""The folder a scan writes: the ids of all rows as CSV and Parquet, what was found as JSON; never among the data."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mithridate.errors import ConfigError, StoreError
from mithridate.scan.scanning import Findings
from mithridate.scan.telling import facts, table
from mithridate.store import write_atomically

REPORT, JSON, CSV, PARQUET = "report.html", "scan.json", "ids.csv", "ids.parquet"


def folder(place: Path, out: Path | None) -> Path:
    """Where to write what is found in ``place``: ``out``, or ``scan-NAME`` in the working directory.

    Raises :class:`ConfigError` for a folder inside the data, or one that holds anything but an earlier scan.
    """
    data = place.resolve()
    chosen = out if out is not None else Path(f"scan-{data.stem if data.is_file() else data.name or 'folder'}")
    target = chosen.resolve()
    if target == data or (data.is_dir() and target.is_relative_to(data)):
        raise ConfigError(
            f"'{chosen}' lies in the folder to be scanned, which is never written to; choose another with --out"
        )
    if target.exists() and not target.is_dir():
        raise ConfigError(f"'{chosen}' is a file, but a folder is needed; choose another with --out")
    if target.is_dir() and any(target.iterdir()) and not (target / JSON).is_file():
        raise ConfigError(f"'{chosen}' holds other files, which are left alone; choose a new folder with --out")
    return chosen


def write(target: Path, findings: Findings, *, about: dict[str, Any]) -> dict[str, Any]:
    """Write the ids and the JSON into ``target``; returns what the JSON holds. ``about`` says how the scan was made."""
    columns, found = table(findings), about | facts(findings)
    write_atomically(target / CSV, _csv(columns))
    try:
        pq.write_table(pa.table(columns), target / f".{PARQUET}.partial")
        (target / f".{PARQUET}.partial").replace(target / PARQUET)
    except OSError as error:
        raise StoreError(
            f"cannot write '{target / PARQUET}': {error.strerror or error}; choose another --out"
        ) from error
    write_atomically(target / JSON, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    return found


def _csv(columns: dict[str, list[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()
