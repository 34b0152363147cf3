"""Drawings of what degrading attacks do: error over the amount of poison, and classes over a plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mithridate.report.boundaries import Boundary
from mithridate.report.drawings import cut
from mithridate.report.figures import COLOURS, INK, INTENDED, MUTED, Point, drawn

POISON, NOISE, CLEAN = COLOURS["attack"], COLOURS["noise"], COLOURS["clean"]
Look = tuple[str, str, str]
ATTACK: Look = (POISON, "-", "o")
"""The look of the attack that the verdict is about: colour, dashes, mark."""
OTHERS: tuple[Look, ...] = ((NOISE, "--", "s"), (MUTED, "-.", "^"), (INK, ":", "v"), (INTENDED, "--", "P"))
"""The looks of other attacks."""
DEFENSES: tuple[Look, ...] = (
    (CLEAN, "--", "D"),
    (INTENDED, "-.", "^"),
    (NOISE, ":", "s"),
    (MUTED, "--", "v"),
    (INK, "-.", "P"),
    (CLEAN, ":", "X"),
)
"""The looks of defenses. No two lines of a figure differ by their colour alone."""
_GAP = 11.5
"""Points between two names beside the lines."""
REGIONS = (CLEAN, INTENDED, NOISE, MUTED, INK)
"""Colours of classes on a plane."""
_MARKS = ("o", "^", "s", "D", "v")


@dataclass(frozen=True, kw_only=True)
class ErrorLine:
    """One line with its band: error at several amounts of poison, in [0, 1]."""

    name: str
    """Written beside its right end."""
    points: Sequence[Point]
    look: Look


def error_lines(name: str, lines: Sequence[ErrorLine], *, top: float, up: str, label: str) -> Markup:
    """Lines of error over the poison in % of the clean rows, from 0 to ``top`` (a share), each named at its end."""

    def draw(axes: Axes) -> None:
        for line in lines[::-1]:  # the first on top
            colour, dashes, mark = line.look
            x, mean, low, high = (
                100 * np.asarray([getattr(point, part) for point in line.points])
                for part in ("x", "mean", "low", "high")
            )
            if np.any(high > low):
                axes.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0)
            wide = 2.0 if line.look == ATTACK else 1.4
            axes.plot(x, mean, color=colour, linestyle=dashes, marker=mark, markersize=4, linewidth=wide, clip_on=False)
            if line.look == ATTACK and x[0] == 0:  # clean data, without a defense
                axes.plot(0, mean[0], color=CLEAN, marker="D", markersize=6, clip_on=False, zorder=5)
        axes.set_ylim(0, 100 * top)
        axes.set_xlim(left=0)
        axes.set_xlabel("poison, % of the clean rows")
        axes.set_ylabel(f"{up}, %")
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
        _named_at_the_end(axes, lines)

    return drawn(name, draw, label=label, width=4.8, height=3.0)


def plane(name: str, found: Boundary, classes: Sequence[str], *, label: str) -> Markup:
    """What a victim calls every place, its training rows by class, and the poison among them with a rim."""

    def draw(axes: Axes) -> None:
        grid = np.asarray(found.classes)
        for k in sorted(set(grid.ravel().tolist())):
            colour = REGIONS[k % len(REGIONS)]
            inside = (grid == k).astype(float)
            axes.contourf(found.x, found.y, inside, levels=[0.5, 1.5], colors=[colour], alpha=0.16)
            if 0 < inside.mean() < 1:
                axes.contour(found.x, found.y, inside, levels=[0.5], colors=[INK], linewidths=0.8)
        for poison in (False, True):
            for k in range(len(classes)):
                spots = [(spot.x, spot.y) for spot in found.spots if (spot.poison, spot.label) == (poison, k)]
                if spots:
                    _rows(axes, spots, k, poison=poison)
        axes.set_xlim(found.x[0], found.x[-1])
        axes.set_ylim(found.y[0], found.y[-1])
        axes.set_xlabel(found.axes[0])
        axes.set_ylabel(found.axes[1])
        axes.grid(visible=False)

    return drawn(name, draw, label=label, height=3.2)


def _rows(axes: Axes, spots: Sequence[tuple[float, float]], k: int, *, poison: bool) -> None:
    x, y = zip(*spots, strict=True)
    colour, mark = REGIONS[k % len(REGIONS)], _MARKS[k % len(_MARKS)]
    rim, size, wide = (POISON, 34, 1.6) if poison else (colour, 11, 0.0)
    axes.scatter(x, y, color=colour, marker=mark, s=size, edgecolors=rim, linewidths=wide, alpha=0.85)


def _named_at_the_end(axes: Axes, lines: Sequence[ErrorLine]) -> None:
    """Names to the right of the lines, moved apart where they would stand on each other."""
    canvas = axes.get_figure(root=True)
    assert canvas is not None
    canvas.draw_without_rendering()  # so that the axes have their height
    point = 72 / canvas.dpi
    ends = [100 * line.points[-1].mean for line in lines]
    own = [float(axes.transData.transform((0.0, end))[1]) * point for end in ends]
    floor = float(axes.transAxes.transform((0.0, 0.0))[1]) * point
    for line, end, at, to in zip(lines, ends, own, spread(own, _GAP, floor), strict=True):
        axes.annotate(
            cut(line.name, 24),
            (100 * line.points[-1].x, end),
            xytext=(9, to - at),
            textcoords="offset points",
            va="center",
            color=line.look[0],
            fontweight="bold" if line.look == ATTACK else "normal",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": line.look[0], "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
            if abs(to - at) > 3
            else None,
        )


def spread(places: Sequence[float], gap: float, floor: float) -> list[float]:
    """``places`` moved as little as a few passes find, so that any two are at least ``gap`` apart and none below.

    Their order stays; equal ones keep that in which they were given, the first on top.
    """
    order = sorted(range(len(places)), key=lambda k: (places[k], -k))
    groups: list[list[float]] = []  # sum of the places less their steps in the group, and how many there are
    for k in order:
        groups.append([max(places[k], floor), 1])
        while len(groups) > 1 and _bottom(groups[-1], gap) < _top(groups[-2], gap) + gap - 1e-9:
            total, count = groups.pop()
            groups[-1] = [groups[-1][0] + total, groups[-1][1] + count]
    found = [0.0] * len(places)
    lowest, k = floor, 0
    for group in groups:
        start = max(_bottom(group, gap), lowest)
        for step in range(int(group[1])):
            found[order[k]] = start + gap * step
            k += 1
        lowest = start + gap * int(group[1])
    return found


def _bottom(group: Sequence[float], gap: float) -> float:
    """Where the lowest of a group stands when its middle stands at the mean of its places."""
    return group[0] / group[1] - gap * (group[1] - 1) / 2


def _top(group: Sequence[float], gap: float) -> float:
    return group[0] / group[1] + gap * (group[1] - 1) / 2
