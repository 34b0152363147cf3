"""Attacks in rows, victims in columns: the mean error of each pair, and how far it rises over clean data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mithridate.report.combinations import Cell, planned
from mithridate.report.degrading import baseline
from mithridate.report.load import Run
from mithridate.report.means import average, gap
from mithridate.stats import Difference, Estimate

_MOST = 12
"""Scenarios on the page."""
_STRONG = 0.1
"""A rise that has the full colour, unless there is a larger one."""
_DARKEST = 42
"""Colour of the largest rise, in % of the full one: text must stay legible on it."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One attack on one victim; estimates are None where nothing was run."""

    rate: Estimate | None
    rise: Difference | None
    """Over clean data, paired by trial."""
    box: str | None
    """What the attacker knows of the victim, where that was recorded."""
    shade: float
    """How dark its place in the table is, in % of the full colour."""
    planned: int | None
    """Victims that the experiment plans, where some are left."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One attack on every victim."""

    attack: str
    words: str
    """What a baseline is; empty for other attacks."""
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """All attacks on all victims in one scenario, without defenses."""

    scenario: str
    victims: tuple[str, ...]
    clean: tuple[Estimate | None, ...]
    """Error on clean data, of each victim."""
    rows: tuple[Row, ...]


def transfers(run: Run, found: Sequence[Cell], cell: Cell) -> list[Transfer]:
    """One table for every scenario with results, that of ``cell`` first."""
    plain = [each for each in found if each.defense == "none"]
    judged = dict.fromkeys(each.scenario for each in plain if each.poisoned)
    names = sorted(judged, key=lambda name: name != cell.scenario)[:_MOST]
    return [_transfer(run, name, [each for each in plain if each.scenario == name], cell) for name in names]


def _transfer(run: Run, scenario: str, cells: Sequence[Cell], cell: Cell) -> Transfer:
    victims = tuple(sorted(dict.fromkeys(each.victim for each in cells), key=lambda name: name != cell.victim))
    attacks = sorted(dict.fromkeys(each.attack for each in cells), key=lambda name: bool(baseline(name)))
    places = {(each.attack, each.victim): each for each in cells}
    rises = {place: gap(each.poisoned, each.clean) for place, each in places.items()}
    highest = max([_STRONG, *(rise.mean for rise in rises.values() if rise)])
    return Transfer(
        scenario=scenario,
        victims=victims,
        clean=tuple(_clean([each for each in cells if each.victim == victim]) for victim in victims),
        rows=tuple(
            Row(
                attack=attack,
                words=baseline(attack) or "",
                pairs=tuple(
                    _pair(run, places.get((attack, victim)), rises.get((attack, victim)), highest) for victim in victims
                ),
            )
            for attack in attacks
        ),
    )


def _clean(cells: Sequence[Cell]) -> Estimate | None:
    """The clean victims, of that attack which was tried in most trials."""
    return average(max((each.clean for each in cells), key=len, default=()))


def _pair(run: Run, cell: Cell | None, rise: Difference | None, highest: float) -> Pair:
    shade = _DARKEST * max(0.0, rise.mean) / highest if rise else 0.0
    return Pair(
        rate=average(cell.poisoned) if cell else None,
        rise=rise,
        box=cell.box if cell else None,
        shade=shade,
        planned=planned(run, cell) if cell else None,
    )
