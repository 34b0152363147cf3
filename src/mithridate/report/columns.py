"""The columns of a table as people know them: one feature each, a one-hot group being one; values in natural units."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mithridate.report.values import items, mapping, number

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One thing that is known of every row."""

    name: str
    kind: str
    """``real``, ``integer``, ``binary`` or ``one-hot``."""
    places: tuple[int, ...]
    """Its columns: one, but for a one-hot group."""
    low: float
    high: float
    categories: tuple[str, ...]
    """One for each column of a one-hot group."""

    def moves(self, inputs: Floats, base: Floats) -> Floats:
        """By how much each row moved, ``(N,)``, in ranges of the column, signed; a changed category counts as 1."""
        places = list(self.places)
        if self.kind == "one-hot":
            changed: Floats = np.abs(inputs[:, places] - base[:, places]).sum(1) / 2
            return changed
        span = self.high - self.low
        moved: Floats = inputs[:, places[0]] - base[:, places[0]]
        return moved / span if span > 0 else np.zeros(len(inputs))

    def value(self, row: Floats) -> str:
        """What a row ``(D,)`` holds, as people write it."""
        if self.kind == "one-hot":
            return self.categories[int(row[list(self.places)].argmax())]
        value = float(row[self.places[0]])
        if self.kind in ("integer", "binary"):
            return f"{value:.0f}"
        return f"{value:.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def features(folder: Path, width: int) -> list[Feature]:
    """The features of a poison set of tables with so many columns; columns that have no name get a number."""
    space = _space(folder / "manifest.json")
    listed = [mapping(each) for each in items(space.get("columns"))]
    if len(listed) != width:
        low, high = _bounds(space)
        return [_plain({"name": f"column {k}"}, k, low, high) for k in range(width)]
    groups: dict[str, list[int]] = {}
    for k, column in enumerate(listed):
        group = str(column.get("group") or "") if column.get("kind") == "one-hot" else ""
        groups.setdefault(f"group {group}" if group else f"column {k}", []).append(k)
    return [_feature(listed, places) for places in groups.values()]


def _feature(listed: Sequence[Mapping[str, Any]], places: Sequence[int]) -> Feature:
    first = listed[places[0]]
    if first.get("kind") != "one-hot" or not first.get("group"):
        return _plain(first, places[0], _number(first.get("low"), 0.0), _number(first.get("high"), 1.0))
    names = tuple(str(listed[k].get("category") or listed[k].get("name")) for k in places)
    return Feature(name=str(first["group"]), kind="one-hot", places=tuple(places), low=0.0, high=1.0, categories=names)


def _plain(column: Mapping[str, Any], place: int, low: float, high: float) -> Feature:
    kind = str(column.get("kind") or "real")
    return Feature(
        name=str(column.get("name") or f"column {place}"),
        kind="binary" if kind == "one-hot" else kind,  # a category that stands alone
        places=(place,),
        low=low,
        high=high,
        categories=(),
    )


def _space(manifest: Path) -> dict[str, Any]:
    try:
        return mapping(mapping(json.loads(manifest.read_text(encoding="utf-8"))).get("space"))
    except (OSError, ValueError):
        return {}


def _bounds(space: Mapping[str, Any]) -> tuple[float, float]:
    found = [number(each) for each in items(space.get("bounds"))]
    low, high = [*found, None, None][:2]
    return (0.0, 1.0) if low is None or high is None else (low, high)


def _number(value: Any, otherwise: float) -> float:
    found = number(value)
    return otherwise if found is None else found
