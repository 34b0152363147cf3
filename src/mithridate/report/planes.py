"""What a run says of rows in feature spaces: planes to draw, and where a poison lies around its target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mithridate.report.values import items, mapping, number


@dataclass(frozen=True, kw_only=True)
class FeatureMap:
    """A plane through a network's feature space, with some rows projected on it."""

    points: tuple[tuple[float, float], ...]
    groups: tuple[str, ...]
    axes: tuple[str, str]

    def group(self, name: str) -> tuple[tuple[float, float], ...]:
        """The points of one group, in their order."""
        return tuple(point for point, group in zip(self.points, self.groups, strict=True) if group == name)


@dataclass(frozen=True, kw_only=True)
class Polytope:
    """Where a finished poison lies in one network's features. Distances are in lengths of the target; None: unknown."""

    network: str
    hull: float | None
    """From the target to the nearest convex combination of the poisoned rows."""
    mean: float | None
    """From the target to their mean."""
    clean_hull: float | None
    """The same of the rows before they were poisoned."""
    clean_mean: float | None
    coefficients: tuple[float, ...]
    """Of that nearest combination, one in [0, 1] for each poisoned row; empty where they were not kept."""
    plane: FeatureMap | None


def feature_map(value: Any) -> FeatureMap | None:
    """A map with two finite coordinates and a group for every point, or None."""
    found = mapping(value)
    pairs = [
        ((float(point[0]), float(point[1])), str(group))
        for point, group in zip(items(found.get("points")), items(found.get("groups")), strict=False)
        if len(items(point)) == 2 and all(number(value) is not None for value in point)
    ]
    if not pairs:
        return None
    names = [str(name) for name in items(found.get("axes"))]
    first, second = [*names, "", ""][:2]
    return FeatureMap(
        points=tuple(point for point, _ in pairs), groups=tuple(group for _, group in pairs), axes=(first, second)
    )


def polytopes(value: Any) -> tuple[Polytope, ...]:
    """One view for each network that has anything to show; none for attacks and runs without."""
    found = [_polytope(mapping(each)) for each in items(value)]
    return tuple(each for each in found if each.plane is not None or each.hull is not None)


def _polytope(row: Mapping[str, Any]) -> Polytope:
    shares = [number(each) for each in items(row.get("coefficients"))]
    known = [min(max(each, 0.0), 1.0) for each in shares if each is not None]
    return Polytope(
        network=str(row.get("network") or "surrogate"),
        hull=number(row.get("hull")),
        mean=number(row.get("mean")),
        clean_hull=number(row.get("clean_hull")),
        clean_mean=number(row.get("clean_mean")),
        coefficients=tuple(known) if len(known) == len(shares) else (),
        plane=feature_map(row),
    )
