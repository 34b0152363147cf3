"""Safety against its price: what the poisoner still gets over clean accuracy, with the cost of each defense as size."""

from __future__ import annotations

from collections.abc import Sequence

from mithridate.report import drawings
from mithridate.report.combinations import Cell, accuracy, same_attack, success
from mithridate.report.drawings import Dot
from mithridate.report.effects import effect
from mithridate.report.figures import Figure
from mithridate.report.words import percent, times
from mithridate.stats import Estimate

TITLE = "Safety and its price"
_MOST = 11
"""Figures beside that of the verdict."""


def tradeoff(
    same: Sequence[Cell], measure: str = "Success", *, name: str = "trade", title: str = TITLE
) -> Figure | None:
    """All defenses that met one attack, a mark for each; None where fewer than two have results.

    ``same`` are combinations that differ in the defense alone, ``measure`` is what their rates are of, and ``name``
    must be unique on the page. The area of a mark grows with the time that one network took.
    """
    graded = any(each.graded for each in same)
    plain = next((cell for cell in same if cell.defense == "none"), None)
    dots: list[Dot] = []
    key: list[str] = []
    said: list[str] = []
    for cell in same:
        hit, price = success(cell.poisoned), success(cell.clean) if graded else accuracy(cell.poisoned)
        if hit is None or price is None or (graded and cell.control_of):
            continue
        cost = effect(cell, plain).times
        if not cell.control_of:
            more = f" ({times(cost)})" if cost is not None and cell.defense != "none" else ""
            key.append(f"{len(key) + 1}\N{NO-BREAK SPACE}{_called(cell)}{more}")
            said.append(f"{_called(cell)}: {_said(hit, price, graded=graded)}{more}")
        dots.append(_dot(cell, hit, price, cost, None if cell.control_of else len(key)))
    if len(key) < 2:
        return None
    return _drawn(name, dots, key, said, title=title, measure=measure if graded else "")


def others(found: Sequence[Cell], cell: Cell, measure: str = "Success") -> list[Figure]:
    """The same for the other attacks, scenarios and victims: those that share most with ``cell`` first, a dozen."""
    places = list(dict.fromkeys((each.scenario, each.victim, each.attack) for each in found))
    own = (cell.scenario, cell.victim, cell.attack)
    places.sort(key=lambda place: (place[0] != own[0], place[1] != own[1]))
    drawn: list[Figure] = []
    for scenario, victim, attack in places:
        if (scenario, victim, attack) == own or len(drawn) == _MOST:
            continue
        same = same_attack(
            found,
            next(each for each in found if (each.scenario, each.victim, each.attack) == (scenario, victim, attack)),
        )
        away = [name for name, usual in ((scenario, own[0]), (victim, own[1])) if name != usual]
        figure = tradeoff(same, measure, name=f"trade{len(drawn)}", title=", ".join((attack, *away)))
        drawn += [figure] if figure else []
    return drawn


def _dot(cell: Cell, hit: Estimate, price: Estimate, cost: float | None, number: int | None) -> Dot:
    kind = "none" if cell.defense == "none" else "oracle" if cell.oracle else "defense"
    return Dot(
        number=number,
        accuracy=price.mean,
        accuracies=(price.low, price.high),
        success=hit.mean,
        successes=(hit.low, hit.high),
        kind="control" if cell.control_of else kind,
        times=1.0 if cost is None or kind == "none" else cost,
    )


def _drawn(
    name: str, dots: Sequence[Dot], key: Sequence[str], said: Sequence[str], *, title: str, measure: str
) -> Figure:
    """The figure; ``measure`` is empty where success is a count of hits."""
    area = " A larger mark takes more time (× no defense)." if len({dot.times for dot in dots}) > 1 else ""
    small = " Small squares are controls." if len(dots) > len(key) else ""
    if measure:
        measure = measure[:1].lower() + measure[1:]
        axes = {"across": f"{measure} on clean data, %", "up": f"{measure} under poison, %"}
        label, means = f"Scatter plot of {measure}", "Down is safer, left costs less without poison"
    else:
        axes, label, means = {}, "Scatter plot of networks hit over accuracy", "Down is safer, right more accurate"
    return Figure(
        svg=drawings.trade(name, dots, label=f"{label}. {'; '.join(said)}", **axes),
        title=title,
        caption=f"{', '.join(key)}. {means}; bars are 95 % intervals.{area}{small}",
    )


def _said(hit: Estimate, price: Estimate, *, graded: bool) -> str:
    if graded:
        return f"{percent(hit.mean, 1)} under poison, {percent(price.mean, 1)} on clean data"
    return f"{percent(hit.mean)} hit at {percent(price.mean, 1)} accuracy"


def _called(cell: Cell) -> str:
    return "no defense" if cell.defense == "none" else cell.defense
