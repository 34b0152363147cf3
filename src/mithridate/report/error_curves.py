"""Error against the amount of poison: for every victim what each attack does, and what each defense leaves of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mithridate.report.combinations import Cell
from mithridate.report.degrading import Degradation
from mithridate.report.error_drawings import ATTACK, DEFENSES, OTHERS, ErrorLine, Look, error_lines
from mithridate.report.figures import Figure, Point
from mithridate.report.load import Victim
from mithridate.report.means import average
from mithridate.report.words import fine, listed

_VICTIMS = 8
"""Victims that have figures."""
_DEFENSES = 6
"""Defenses in one figure: those that leave the least."""


@dataclass(frozen=True, kw_only=True)
class Curves:
    """The figures, and what the amounts of poison are as shares of all that is trained on."""

    figures: tuple[Figure, ...]
    shares: str
    left_out: int
    """Victims without a figure."""


def error_curves(found: Sequence[Cell], cell: Cell, goal: Degradation) -> Curves | None:
    """Two figures for each victim, with one height: all attacks, and all defenses against the attack of ``cell``."""
    kept = [each for each in found if each.poisoned and each.crafts and _radius(each) == _radius(cell)]
    victims = sorted(dict.fromkeys(each.victim for each in kept), key=lambda name: name != cell.victim)
    pairs = [(victim, _attacks(kept, victim, cell), _defenses(kept, victim, cell)) for victim in victims[:_VICTIMS]]
    lines = [line for _, attacks, defenses in pairs for line in (*attacks, *defenses)]
    highest = max((point.high for line in lines for point in line.points), default=0.0)
    if not highest:
        return None
    top = min(1.0, math.ceil(highest * 21) / 20)
    drawn = []
    for k, (victim, attacks, defenses) in enumerate(pairs):
        drawn.append(_figure(f"e{k}a", attacks, top, goal, victim, "what the attacks do"))
        if len(defenses) > 1:
            drawn.append(_figure(f"e{k}d", defenses, top, goal, victim, f"what defenses leave of {cell.attack}"))
    return Curves(figures=tuple(drawn), shares=_shares(kept, goal), left_out=len(victims[_VICTIMS:]))


def _radius(cell: Cell) -> str:
    return cell.crafts[0].radius if cell.crafts else ""


def _attacks(found: Sequence[Cell], victim: str, cell: Cell) -> list[ErrorLine]:
    """A line for every undefended attack, that of ``cell`` first."""
    mine = [each for each in found if (each.victim, each.defense) == (victim, "none")]
    names = sorted(dict.fromkeys(each.attack for each in mine), key=lambda name: name != cell.attack)
    return [
        ErrorLine(
            name=name,
            points=_points([each for each in mine if each.attack == name]),
            look=ATTACK if name == cell.attack else OTHERS[(k - 1) % len(OTHERS)],
        )
        for k, name in enumerate(names)
    ]


def _defenses(found: Sequence[Cell], victim: str, cell: Cell) -> list[ErrorLine]:
    """A line for the attack of ``cell`` without a defense, and one with each, controls left out."""
    mine = [each for each in found if (each.victim, each.attack) == (victim, cell.attack) and not each.control_of]
    names = sorted(dict.fromkeys(each.defense for each in mine), key=lambda name: name != "none")
    lines = {name: _points([each for each in mine if each.defense == name]) for name in names}
    kept = sorted(names, key=lambda name: (name != "none", lines[name][-1].mean))[: _DEFENSES + 1]
    worn = [name for name in names if name != "none"]
    looks: dict[str, Look] = {name: DEFENSES[k % len(DEFENSES)] for k, name in enumerate(worn)}
    return [
        ErrorLine(name="no defense" if name == "none" else name, points=lines[name], look=looks.get(name, ATTACK))
        for name in kept
    ]


def _points(cells: Sequence[Cell]) -> list[Point]:
    """Clean victims at 0, then one point for each share of poison: that of the first scenario that has it."""
    amounts: dict[float, Cell] = {}
    for cell in cells:
        share = cell.crafts[0].share
        if share is not None:
            amounts.setdefault(share, cell)
    clean = max((cell.clean for cell in cells), key=len, default=())
    groups: list[tuple[float, Sequence[Victim]]] = [(0.0, clean)]
    groups += [(share, amounts[share].poisoned) for share in sorted(amounts)]
    return [
        Point(x=x, mean=rate.mean, low=rate.low, high=rate.high) for x, victims in groups if (rate := average(victims))
    ]


def _figure(name: str, lines: Sequence[ErrorLine], top: float, goal: Degradation, victim: str, what: str) -> Figure:
    said = [
        f"{line.name}: {', '.join(f'{fine(point.mean)} at {100 * point.x:.3g} %' for point in line.points)}"
        for line in lines
    ]
    label = f"Line chart of {goal.noun} over the poison in percent of the clean rows, {victim}. {'; '.join(said)}"
    svg = error_lines(name, lines, top=top, up=goal.heading[:1].lower() + goal.heading[1:], label=label)
    return Figure(svg=svg, title=f"{victim}: {what}")


def _shares(found: Sequence[Cell], goal: Degradation) -> str:
    """The same amounts as shares of all that is trained on, where poison is added to the clean rows."""
    crafts = [craft for cell in found for craft in cell.crafts]
    pairs = sorted({(craft.share, craft.total_share) for craft in crafts if craft.share and craft.total_share})
    if not pairs or not goal.appended:
        return ""
    clean, total = ([f"{100 * pair[k]:.3g}" for pair in dict(pairs).items()] for k in (0, 1))
    return f"{listed(clean)} % of the clean rows are {listed(total)} % of what is trained on"
