"""Values out of JSON rows, read with care: what is absent or no number becomes None, never an error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def mapping(value: Any) -> dict[str, Any]:
    """A mapping with text for keys; empty where the value is none."""
    return {str(name): each for name, each in value.items()} if isinstance(value, Mapping) else {}


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, (int, float)) and math.isfinite(value):  # a union of types takes four times as long
        return float(value)
    return None


def whole(value: Any) -> int | None:
    """A whole number (cut, not rounded), or None."""
    found = number(value)
    return None if found is None else int(found)


def text(value: Any) -> str | None:
    """A value as text, or None."""
    return None if value is None else str(value)


def items(value: Any) -> list[Any]:
    """The items of a list; empty where the value is none."""
    return list(value) if isinstance(value, list | tuple) else []


def series(value: Any) -> dict[str, tuple[float, ...]]:
    """Named series of numbers; what is no number becomes NaN, so that a gap stays a gap."""
    found = {}
    for name, values in mapping(value).items():
        if isinstance(values, list) and values:
            numbers = [number(each) for each in values]
            found[name] = tuple(math.nan if each is None else each for each in numbers)
    return found


def matrix(value: Any) -> tuple[tuple[int, ...], ...]:
    """A square table of counts, at least 0; empty where the value is none."""
    rows = [[whole(each) for each in items(row)] for row in items(value)]
    counts = tuple(tuple(each for each in row if each is not None and each >= 0) for row in rows)
    return counts if all(len(row) == len(rows) for row in counts) else ()
