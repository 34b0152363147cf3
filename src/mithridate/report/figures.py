"""Figures as inline SVG that follows the page's colours, light or dark: matplotlib draws, this module adapts."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from mithridate.report.load import Control
from mithridate.report.planes import FeatureMap

INK, FAINT = "#0a0101", "#0a0102"
COLOURS: dict[Control, str] = {"attack": "#0a0103", "noise": "#0a0104", "clean": "#0a0105"}
INTENDED, MUTED = "#0a0106", "#0a0107"
_VARIABLES = {
    INK: "currentColor",
    FAINT: "var(--line)",
    COLOURS["attack"]: "var(--poison)",
    COLOURS["noise"]: "var(--noise)",
    COLOURS["clean"]: "var(--clean)",
    INTENDED: "var(--intended)",
    MUTED: "var(--muted)",
}
"""Stand-ins that matplotlib takes for colours, and the style-sheet values that replace them."""

MARKS: dict[Control, str] = {"attack": "o", "noise": "s", "clean": "D"}
GROUPS: dict[str, tuple[str, str]] = {
    "target class": (COLOURS["clean"], "o"),
    "intended class": (INTENDED, "^"),
    "base": (MUTED, "s"),
    "poison": (COLOURS["attack"], "X"),
    "target": (INK, "*"),
}
LONGEST = 160
"""Points of one curve; longer ones are thinned."""
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mithridate",
    "text.parse_math": False,
    "font.size": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "lines.linewidth": 1.3,
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One drawing for the page."""

    svg: Markup
    title: str
    caption: str = ""
    main: bool = True
    """Whether it is shown at once; the others are folded away."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One curve: values at equal steps, or at ``x``. NaN leaves a gap."""

    values: Sequence[float]
    control: Control = "attack"
    x: Sequence[float] = field(default=())


@dataclass(frozen=True, kw_only=True)
class Point:
    """A rate at one setting, with its interval."""

    x: float
    mean: float
    low: float
    high: float


def curves(name: str, lines: Sequence[Line], *, title: str, across: str, label: str, caption: str = "") -> Figure:
    """Thin curves over steps, one a job. ``name`` must be unique on the page; ``label`` is read to those who listen."""

    def draw(axes: Axes) -> None:
        for line in lines:
            values = np.asarray(line.values, dtype=float)
            x = np.asarray(line.x if len(line.x) else np.arange(1, len(values) + 1), dtype=float)
            kept = np.unique(np.linspace(0, len(values) - 1, min(len(values), LONGEST)).round().astype(int))
            dot = "o" if len(kept) == 1 else None
            axes.plot(
                x[kept], values[kept], color=COLOURS[line.control], alpha=0.8, linewidth=1, marker=dot, markersize=3
            )
        axes.set_xlabel(across)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))

    return Figure(svg=drawn(name, draw, label=label), title=title, caption=caption)


def rates(
    name: str,
    series: Mapping[Control, Sequence[Point]],
    *,
    title: str,
    across: str,
    ticks: Mapping[float, str],
    label: str,
    caption: str = "",
) -> Figure:
    """Rates over a setting, with interval bars; controls beside the attack."""
    values = sorted(ticks)

    def draw(axes: Axes) -> None:
        logarithmic = values[0] > 0 and values[-1] / values[0] >= 4
        for k, (control, points) in enumerate(series.items()):
            x = np.asarray([point.x for point in points])
            moved = x * 1.035**k if logarithmic else x + 0.012 * k * (values[-1] - values[0])
            y = np.asarray([point.mean for point in points]) * 100
            spread = np.abs(np.asarray([[p.low, p.high] for p in points]).T * 100 - y)
            line = "-" if control == "attack" else "--"
            bars = axes.errorbar(moved, y, yerr=spread, color=COLOURS[control], elinewidth=1, capsize=2)
            bars.lines[0].set(marker=MARKS[control], markersize=4, linestyle=line)
        if logarithmic:
            axes.set_xscale("log")
        axes.set_xticks(values, [ticks[value] for value in values])
        axes.minorticks_off()
        axes.set_ylim(-4, 104)
        axes.set_ylabel("networks hit, %")
        axes.set_xlabel(across)

    return Figure(svg=drawn(name, draw, label=label), title=title, caption=caption)


def scatter(name: str, plane: FeatureMap, *, title: str, label: str, caption: str = "") -> Figure:
    """Rows in a plane of feature space, drawn by group; the target last, on top."""

    def draw(axes: Axes) -> None:
        points, groups = np.asarray(plane.points, dtype=float), np.asarray(plane.groups)
        order = [*GROUPS, *sorted(set(plane.groups) - set(GROUPS))]
        for group in sorted(set(plane.groups), key=lambda each: (each == "target", order.index(each))):
            colour, mark = GROUPS.get(group, (MUTED, "."))
            x, y = points[groups == group].T
            size, alpha = (130, 1.0) if group == "target" else (13, 0.6)
            axes.scatter(x, y, color=colour, marker=mark, s=size, alpha=alpha, linewidths=0)
        axes.set_xlabel(plane.axes[0])
        axes.set_ylabel(plane.axes[1])

    return Figure(svg=drawn(name, draw, label=label), title=title, caption=caption)


def drawn(name: str, draw: Callable[[Axes], None], *, label: str, height: float = 2.7, width: float = 3.7) -> Markup:
    """Draw on a small canvas (legible on a phone), so many inches high and wide, and return SVG for the page."""
    file = io.StringIO()
    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # only widths are guessed; browsers have fonts
        canvas = Canvas(figsize=(width, height))
        draw(canvas.add_subplot())
        unsaid = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        canvas.savefig(file, format="svg", metadata=unsaid, transparent=True)
    return _inlined(file.getvalue(), name, label)


def _inlined(svg: str, name: str, label: str) -> Markup:
    """SVG for use inside a page: ids of its own, the page's colours and fonts, and no reference to anywhere."""
    svg = svg[svg.index("<svg") :]
    size = re.search(r'viewBox="([^"]*)"', svg)
    assert size is not None
    svg = svg[svg.index(">", size.end()) + 1 :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # only markers and clip paths are referred to
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'\bxlink:href="#', f'href="#{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r"font-family: [^;\"]*; ", "", svg)
    svg = re.sub(r'\b(?:d|x|y|transform)="[^"]*"', lambda found: _short(found[0]), svg)
    svg = re.sub(r">\n\s*<", "><", svg)
    for stand_in, value in _VARIABLES.items():
        svg = svg.replace(stand_in, value)
    head = Markup('<svg class="plot" role="img" viewBox="{}" aria-label="{}">').format(size[1], label)
    return head + Markup(svg)  # noqa: S704 - matplotlib escapes the only data in it, the axis labels


def _short(attribute: str) -> str:
    """Coordinates with one decimal, a seventh of a pixel, and without line breaks."""
    return re.sub(r"(\d+\.\d)\d+", r"\1", attribute).replace(" \n", " ").replace("\n", " ")
