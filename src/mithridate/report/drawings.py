"""Drawings for defenses: what was removed when and of what, and the price of safety. Each returns SVG for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mithridate.report.figures import COLOURS, FAINT, INK, INTENDED, MUTED, drawn

POISON, CLEAN = COLOURS["attack"], COLOURS["clean"]
_NAME = 22
"""Letters of a name beside an axis."""


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Shares that rise round by round, from 0 before the first."""

    epochs: tuple[int, ...]
    """Epochs done before each round, ascending."""
    shares: tuple[float, ...]
    """In [0, 1], from that round on."""

    def at(self, epoch: int) -> float:
        """The share once the rounds up to ``epoch`` are done."""
        return next((s for e, s in zip(self.epochs[::-1], self.shares[::-1], strict=True) if e <= epoch), 0.0)


@dataclass(frozen=True, kw_only=True)
class Dot:
    """One defense in the plane of success and accuracy, with intervals as (low, high)."""

    number: int | None
    """Written beside it; None for a control, which is drawn small."""
    accuracy: float
    accuracies: tuple[float, float]
    success: float
    successes: tuple[float, float]
    kind: str
    """``none``, ``defense``, ``oracle`` or ``control``."""
    times: float = 1.0
    """What it costs, as a multiple of no defense: the area of its mark, within bounds."""


def rounds(
    name: str, poison: Sequence[Steps], clean: Sequence[Steps], chance: Steps, *, end: int, label: str
) -> Markup:
    """Removed shares over the epochs: the mean bold, single networks faint, what chance finds dotted."""

    def draw(axes: Axes) -> None:
        for lines, colour, dash in ((clean, CLEAN, "--"), (poison, POISON, "-")):
            for line in lines:
                _stairs(axes, line, end, color=colour, alpha=0.22, linewidth=0.8)
            _stairs(axes, mean_steps(lines), end, color=colour, linewidth=2, linestyle=dash)
        _stairs(axes, chance, end, color=MUTED, linewidth=1.4, linestyle=":")
        axes.set_ylim(-3, 103)
        axes.set_xlim(0, end)
        axes.set_xlabel("epoch")
        axes.set_ylabel("removed, %")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))

    return drawn(name, draw, label=label)


def classes(name: str, names: Sequence[str], shares: Sequence[Sequence[float]], *, label: str) -> Markup:
    """The share of each class that was removed: a bar for the mean, a dot for each network."""

    def draw(axes: Axes) -> None:
        for k, values in enumerate(shares):
            places = k + (np.linspace(-0.22, 0.22, len(values)) if len(values) > 1 else np.zeros(1))
            axes.barh(k, 100 * sum(values) / len(values), height=0.62, color=MUTED, alpha=0.45)
            axes.plot(100 * np.asarray(values), places, ".", color=INK, markersize=2.5, alpha=0.6, linestyle="none")
        _named(axes, names)
        axes.set_xlim(left=0)
        axes.set_xlabel("share of the class removed, %")

    return drawn(name, draw, label=label, height=_height(len(names)))


def found(
    name: str,
    names: Sequence[str],
    recalls: Sequence[float],
    cleans: Sequence[float],
    shares: Sequence[float],
    label: str,
) -> Markup:
    """For each defense what it removed of the poison and of the clean rows, and what chance would find."""

    def draw(axes: Axes) -> None:
        for k, (recall, clean, share) in enumerate(zip(recalls, cleans, shares, strict=True)):
            axes.plot([100 * clean, 100 * recall], [k, k], color=FAINT, linewidth=2.5, zorder=1)
            axes.plot(100 * share, k, "|", color=MUTED, markersize=12, markeredgewidth=1.5)
            axes.plot(100 * clean, k, "D", color=CLEAN, markersize=4.5)
            axes.plot(100 * recall, k, "o", color=POISON, markersize=5.5)
        _named(axes, names)
        axes.set_xlim(-3, 103)
        axes.set_xlabel("removed, %")

    return drawn(name, draw, label=label, height=_height(len(names)))


ACROSS, UP = "accuracy on clean test data, %", "networks hit, %"
"""What the axes of a trade say of success that is a count of hits."""


def trade(name: str, dots: Sequence[Dot], *, label: str, across: str = ACROSS, up: str = UP) -> Markup:
    """Success against clean accuracy, a numbered point with intervals for each defense; down and right is better.

    Under other names the axes show what the dots hold in these places, and the height is no longer all of 0 to 100 %.
    """

    def draw(axes: Axes) -> None:
        for dot in sorted(dots, key=lambda each: each.kind != "control"):  # controls below
            colour, mark, size = _LOOKS[dot.kind]
            x, y = 100 * dot.accuracy, 100 * dot.success
            wide = np.abs(100 * np.asarray(dot.accuracies)[:, None] - x)
            tall = np.abs(100 * np.asarray(dot.successes)[:, None] - y)
            if dot.kind == "control":
                axes.plot(x, y, mark, color=colour, markersize=size, alpha=0.7)
                continue
            size *= min(max(dot.times, 0.5), _LARGEST) ** 0.5
            bars = axes.errorbar(x, y, xerr=wide, yerr=tall, color=colour, marker=mark, markersize=size, elinewidth=0.7)
            bars.lines[0].set(markeredgewidth=0, alpha=0.85)
            for bar in bars.lines[2]:
                bar.set_alpha(0.6)
        if up == UP:
            axes.set_ylim(-4, 104)
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
        _numbered(axes, [dot for dot in dots if dot.number is not None], dots)

    return drawn(name, draw, label=label, height=3.4)


Line = tuple[Sequence[int], Sequence[float]]


def certificates(name: str, lines: Sequence[Line], *, mean: Line, label: str) -> Markup:
    """Certified accuracy over the rows a poisoner may insert or remove: the mean bold, single networks faint."""

    def draw(axes: Axes) -> None:
        for radius, accuracy in lines:
            axes.step(radius, 100 * np.asarray(accuracy), where="pre", color=CLEAN, alpha=0.25, linewidth=0.8)
        dot = "o" if len(mean[0]) == 1 else None
        axes.step(mean[0], 100 * np.asarray(mean[1]), where="pre", color=CLEAN, linewidth=2, marker=dot)
        axes.set_ylim(-3, 103)
        axes.set_xlabel("rows inserted or removed")
        axes.set_ylabel("certified accuracy, %")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))

    return drawn(name, draw, label=label)


def mean_steps(lines: Sequence[Steps]) -> Steps:
    """The mean of several rising shares."""
    epochs = tuple(sorted({epoch for line in lines for epoch in line.epochs}))
    return Steps(epochs=epochs, shares=tuple(sum(line.at(e) for line in lines) / len(lines) for e in epochs))


def cut(text: str, most: int = _NAME) -> str:
    """A name that fits beside an axis."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


_LOOKS = {
    "none": (INK, "*", 10.0),
    "defense": (POISON, "o", 5.0),
    "oracle": (INTENDED, "^", 5.5),
    "control": (MUTED, "s", 3.0),
}
"""Colour, mark and size of a point."""
_LARGEST = 9.0
"""Cost beyond which a mark grows no more: it would hide others."""


def _stairs(axes: Axes, line: Steps, end: int, **style: object) -> None:
    x = [0, *line.epochs, end]
    y = [0.0, *line.shares, line.shares[-1] if line.shares else 0.0]
    axes.plot(x, 100 * np.asarray(y), drawstyle="steps-post", **style)  # type: ignore[arg-type]


def _named(axes: Axes, names: Sequence[str]) -> None:
    """Names down the left side, the first on top."""
    axes.set_yticks(range(len(names)), [cut(each) for each in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def _height(count: int) -> float:
    return 0.75 + 0.24 * max(count, 3)


def _numbered(axes: Axes, dots: Sequence[Dot], every: Sequence[Dot]) -> None:
    """Write each number where it hides the fewest points and numbers, on the nearest of some rings."""
    axes.autoscale_view()
    canvas = axes.get_figure(root=True)
    assert canvas is not None
    canvas.draw_without_rendering()  # so that the axes have their place
    place = axes.transData.transform
    taken = [np.asarray(place((100 * each.accuracy, 100 * each.success))) for each in every]
    for dot in dots:
        own = np.asarray(place((100 * dot.accuracy, 100 * dot.success)))
        spots = [own + ring * np.asarray(side) for ring in (1.0, 1.7, 2.4) for side in _SIDES]
        best = max(spots, key=lambda spot: (min(12.0, _clear(spot, taken)), -float(np.hypot(*(spot - own)))))
        taken.append(best)
        offset = (best - own) * 72 / canvas.dpi
        far = bool(np.hypot(*offset) > 12)
        axes.annotate(
            str(dot.number),
            (100 * dot.accuracy, 100 * dot.success),
            xytext=tuple(offset),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8.5,
            arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.5} if far else None,
        )


_SIDES = [(11.0, 9.0), (-11.0, 9.0), (11.0, -9.0), (-11.0, -9.0), (0.0, 13.0), (15.0, 0.0), (0.0, -13.0), (-15.0, 0.0)]
"""Where a number may stand around its point, in pixels."""


def _clear(spot: np.ndarray, taken: Sequence[np.ndarray]) -> float:
    """Distance to the nearest thing that is there already, in pixels."""
    return min(float(np.hypot(*(spot - each))) for each in taken)
