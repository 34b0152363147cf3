"""A row as the database keeps it: its JSON text under a checksum, and the scalars that stand beside it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

from mithridate.schema import COLUMNS


def checksum(key: str, kind: str, text: str) -> int:
    """CRC-32 of a row's key, kind and JSON: SQLite itself notices no bit that has changed inside a text."""
    return zlib.crc32(f"{key}\n{kind}\n{text}".encode())


def whole(key: str, kind: str, text: str, kept: int) -> dict[str, Any]:
    """The row in a JSON text. Raises :class:`ValueError` where it is not what was written."""
    if checksum(key, kind, text) != kept:
        raise ValueError(f"the row '{key}' is not what was written")
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"the row '{key}' is no mapping: {text[:40]}")
    return found


def scalars_of(row: Mapping[str, Any]) -> list[Any]:
    """The values of :data:`COLUMNS` in a row; None where it has none, or no scalar."""
    values = [row.get(name) for name in COLUMNS]
    return [value if isinstance(value, (str, int, float)) else None for value in values]
