"""Drawings of feature-space attacks: a poison around its target, and distances over the steps of crafting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mithridate.report.figures import COLOURS, GROUPS, INK, INTENDED, LONGEST, MUTED, Figure, drawn
from mithridate.report.planes import FeatureMap

_POINTS = 60
"""Points drawn of a group; more are thinned."""
_COLOURS = (COLOURS["attack"], COLOURS["clean"], INTENDED, COLOURS["noise"], INK, MUTED)
_DASHES = ("-", "--", ":", "-.", (0, (5, 1)), (0, (1, 1)))
_SIZES = {"base": (16, 0.9), "poison": (26, 0.95), "target": (130, 1.0)}
"""Size and opacity of a point; class clouds are small and faint."""

Place = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Band:
    """A median over trials at equal steps, between its quartiles."""

    label: str
    median: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def surrounded(name: str, plane: FeatureMap, *, title: str, label: str) -> Figure:
    """Classes, base rows and the poison made of them, the polygon of the poison, and the target on top."""

    def draw(axes: Axes) -> None:
        for group in sorted(set(plane.groups), key=_order):
            colour, mark = GROUPS.get(group, (MUTED, "."))
            size, alpha = _SIZES.get(group, (11, 0.5))
            x, y = np.asarray(_thinned(plane.group(group))).T
            axes.scatter(x, y, color=colour, marker=mark, s=size, alpha=alpha, linewidths=0, zorder=3 + _order(group))
        _polygon(axes, plane.group("poison"))
        _moves(axes, plane.group("base"), plane.group("poison"))
        axes.set_xlabel(plane.axes[0])
        axes.set_ylabel(plane.axes[1])
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))

    return Figure(svg=drawn(name, draw, label=label, height=3.0), title=title)


def bands(name: str, found: Sequence[Band], *, title: str, across: str, label: str, caption: str = "") -> Figure:
    """Medians over steps with their quartiles lightly behind them, each in a colour and a dash of its own."""

    def draw(axes: Axes) -> None:
        for k, band in enumerate(found):
            count = len(band.median)
            kept = np.unique(np.linspace(0, count - 1, min(count, LONGEST)).round().astype(int))
            median, low, high = (np.asarray(each)[kept] for each in (band.median, band.low, band.high))
            colour, dash = _COLOURS[k % len(_COLOURS)], _DASHES[k % len(_DASHES)]
            axes.fill_between(kept + 1, low, high, color=colour, alpha=0.16 if len(found) < 3 else 0.07, linewidth=0)
            dot = "o" if len(kept) == 1 else None
            axes.plot(kept + 1, median, color=colour, linestyle=dash, marker=dot, label=band.label, markersize=3)
        if len(found) > 1:
            axes.legend(frameon=False, fontsize=8, handlelength=2.6, labelspacing=0.25)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(across)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))

    return Figure(svg=drawn(name, draw, label=label), title=title, caption=caption)


def outline(points: Sequence[Place]) -> list[Place]:
    """The corners of the convex hull of points in a plane, anticlockwise (Andrew's monotone chain, 1979)."""
    ordered = sorted(set(points))
    if len(ordered) < 3:
        return ordered
    return _half(ordered)[:-1] + _half(ordered[::-1])[:-1]


def _half(ordered: Sequence[Place]) -> list[Place]:
    """One side of the hull: every next corner turns left."""
    kept: list[Place] = []
    for point in ordered:
        while len(kept) > 1 and not _turns_left(kept[-2], kept[-1], point):
            kept.pop()
        kept.append(point)
    return kept


def _turns_left(first: Place, second: Place, third: Place) -> bool:
    one, two = (second[0] - first[0], second[1] - first[1]), (third[0] - first[0], third[1] - first[1])
    return one[0] * two[1] - one[1] * two[0] > 0


def _polygon(axes: Axes, poison: Sequence[Place]) -> None:
    corners = outline(poison)
    if corners:
        x, y = zip(*corners, corners[0], strict=True)
        axes.fill(x, y, color=COLOURS["attack"], alpha=0.16, linewidth=0, zorder=1)
        axes.plot(x, y, color=COLOURS["attack"], alpha=0.8, linewidth=0.8, zorder=2)


def _moves(axes: Axes, base: Sequence[Place], poison: Sequence[Place]) -> None:
    """A line from each row as it was to what it became."""
    if len(base) == len(poison):
        for start, end in zip(_thinned(base), _thinned(poison), strict=True):
            axes.plot([start[0], end[0]], [start[1], end[1]], color=MUTED, alpha=0.7, linewidth=0.6, zorder=2)


def _order(group: str) -> int:
    """Later groups lie on top; unknown ones below."""
    return [*GROUPS].index(group) if group in GROUPS else -1


def _thinned(points: Sequence[Place]) -> list[Place]:
    """At most so many points as a drawing shows, evenly over the sequence."""
    count = min(len(points), _POINTS)
    return [points[k * len(points) // count] for k in range(count)]
