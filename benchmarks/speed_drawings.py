"""The drawings of docs/speed.md: small SVG files, the same bytes for the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

INK, FAINT, OURS, MUST, EXPECTED = "#222222", "#dddddd", "#0072b2", "#d55e00", "#999999"
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mithridate",
    "font.size": 8,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
}
Row = Mapping[str, Any]


def ratios(rows: Sequence[Row], place: Path) -> bool:
    """Times faster than plain, with range, and a mark at what must be. False where there is nothing to draw."""
    fast = [(row, name) for row in rows for name in row["forms"] if name != "plain"]
    if not fast:
        return False
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7, 0.8 + 0.19 * len(fast)))
        axes = figure.subplots()
        for y, (row, name) in enumerate(fast):
            form = row["forms"][name]
            low, high = form["times_faster_range"]
            axes.plot([low, high], [y, y], color=OURS, linewidth=1)
            axes.plot(form["times_faster"], y, "o", color=OURS, markersize=4)
            if name in row["must"]:
                axes.plot([row["must"][name]] * 2, [y - 0.4, y + 0.4], color=MUST, linewidth=1.5)
        _named(axes, [f"{row['name']}, {name}" for row, name in fast])
        axes.set_xscale("log")
        axes.axvline(1, color=INK, linewidth=0.6)
        _plain_numbers(axes.xaxis)
        axes.set_xlabel("times faster than the plain form (median and range over rounds; orange: must)")
        _save(figure, place)
    return True


def shares(rows: Sequence[Row], place: Path) -> bool:
    """What each form reaches of the machine's limit, where its work is counted. False where it is nowhere."""
    known = [
        (row, name, form) for row in rows for name, form in row["forms"].items() if form["share_of_limit"] is not None
    ]
    if not known:
        return False
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7, 0.8 + 0.19 * len(known)))
        axes = figure.subplots()
        for y, (_, name, form) in enumerate(known):
            axes.barh(y, 100 * form["share_of_limit"], height=0.6, color=EXPECTED if name == "plain" else OURS)
        _named(axes, [f"{row['name']}, {name} ({form['limit']})" for row, name, form in known])
        axes.set_xlim(0, 100 * max(1.0, *(form["share_of_limit"] for _, _, form in known)))
        axes.set_xlabel("% of the machine's limit, as measured before (grey: plain)")
        _save(figure, place)
    return True


def growths(rows: Sequence[Row], place: Path, across: int = 3) -> None:
    """Cost over size, both logarithmic: points, the fitted power, and the expected one through the middle."""
    down = -(-len(rows) // across)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7, 2.1 * down))
        panels = figure.subplots(down, across, squeeze=False)
        for axes, row in zip(panels.flat, rows, strict=False):
            _growth(axes, row)
        for axes in list(panels.flat)[len(rows) :]:
            axes.set_visible(False)
        _save(figure, place)


def _growth(axes: Any, row: Row) -> None:
    sizes, fit = np.asarray(row["sizes"], dtype=float), row["fitted"]
    costs = np.asarray(row["costs"]) / (2**20 if row["measures"] == "memory" else 1)
    factor = fit["factor"] / (2**20 if row["measures"] == "memory" else 1)
    middle = np.exp(np.log(sizes).mean())
    line = factor * middle ** fit["exponent"]
    axes.plot(sizes, line * (sizes / middle) ** row["exponent"], "--", color=EXPECTED, linewidth=1)
    axes.plot(sizes, line * (sizes / middle) ** fit["exponent"], color=OURS, linewidth=1)
    axes.plot(sizes, costs, "o", color=OURS, markersize=3.5)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        _plain_numbers(axis)
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axes.set_xticks([], minor=True)
    axes.set_title(f"{row['name']}: {fit['exponent']:.2f}", fontsize=7.5, loc="left")
    axes.set_xlabel(row["parameter"])
    axes.set_ylabel("seconds" if row["measures"] == "seconds" else "MiB")


def _named(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="x")


def _plain_numbers(axis: Any) -> None:
    """Numbers as people write them, not powers of ten."""
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")


def _save(figure: Figure, place: Path) -> None:
    figure.savefig(place, format="svg", metadata={"Date": None, "Creator": None})
