"""What a victim calls every place of a plane, with rows on it: for data of two columns, or two that were picked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mithridate.report.values import items, mapping, number, whole


@dataclass(frozen=True, kw_only=True)
class Spot:
    """One training row on the plane."""

    x: float
    y: float
    label: int
    poison: bool


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """The classes of a grid, and rows."""

    x: tuple[float, ...]
    """Places of the columns of the grid, ascending."""
    y: tuple[float, ...]
    """Places of its rows, ascending."""
    classes: tuple[tuple[int, ...], ...]
    """What the victim calls each place: one row of the grid for each ``y``, one class for each ``x``."""
    spots: tuple[Spot, ...]
    axes: tuple[str, str]


def boundary(value: Any) -> Boundary | None:
    """A plane with a class for every place of its grid, or None; rows with a missing number are left out."""
    found = mapping(value)
    x, y = (tuple(v for each in items(found.get(name)) if (v := number(each)) is not None) for name in ("x", "y"))
    grid = [tuple(v for each in items(row) if (v := whole(each)) is not None) for row in items(found.get("classes"))]
    if len(x) < 2 or len(y) < 2 or len(grid) != len(y) or any(len(row) != len(x) for row in grid):
        return None
    names = [str(name) for name in items(found.get("axes"))]
    first, second = [*names, "", ""][:2]
    return Boundary(
        x=x,
        y=y,
        classes=tuple(grid),
        spots=tuple(spot for row in items(found.get("points")) if (spot := _spot(items(row)))),
        axes=(first, second),
    )


def _spot(row: list[Any]) -> Spot | None:
    if len(row) != 4:
        return None
    x, y, label = number(row[0]), number(row[1]), whole(row[2])
    if x is None or y is None or label is None:
        return None
    return Spot(x=x, y=y, label=label, poison=bool(row[3]))
