"""Which figures a run calls for: success over radius and budget, crafting, feature space, training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mithridate.report import figures, nearing
from mithridate.report.combinations import Cell, success
from mithridate.report.degrading import baseline
from mithridate.report.figures import Figure, Line, Point
from mithridate.report.load import Control, Craft, Run, Series, Victim
from mithridate.report.planes import FeatureMap
from mithridate.report.remembering import networks
from mithridate.report.words import percent, plural

_MOST_LINES = 30
"""Curves in one figure."""
_MOST_CURVES = 16
"""Figures of success over a setting; of more, those without a defense come first."""
_MOST_GROUPS = 4
"""Attacks and scenarios whose crafting is drawn."""
_MOST_MAPS = 3
"""Trials whose feature space is drawn."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One trial in feature space, seen by a clean and by a poisoned network; None where no map was kept."""

    trial: int
    clean: Figure | None
    poisoned: Figure | None


def success_curves(found: Sequence[Cell]) -> list[Figure]:
    """For every attack, victim and defense: success over the radius, and over the budget, where they vary."""
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in found:
        if cell.poisoned and cell.crafts:
            groups.setdefault((cell.attack, cell.victim, cell.defense), []).append(cell)
    curves: list[tuple[list[Cell], str, str]] = []
    for (attack, victim, defense), group in groups.items():
        under = "" if defense == "none" else f", with {defense}"
        for kind in ("radius", "budget"):
            for fixed, members in _varied(group, kind).items():
                curves.append((members, kind, f"{attack} against {victim}{under}, {fixed}"))
    if len(curves) > _MOST_CURVES:
        curves.sort(key=lambda curve: curve[0][0].defense != "none")
    drawn = [_success_curve(f"s{k}", *curve) for k, curve in enumerate(curves[:_MOST_CURVES])]
    if len(curves) > _MOST_CURVES:
        more = f"{plural(len(curves) - _MOST_CURVES, 'further curve')} had no room; the table has their numbers."
        drawn[-1] = replace(drawn[-1], caption=f"{drawn[-1].caption}. {more}")
    return drawn


def crafting(run: Run) -> list[Figure]:
    """What the attack followed while it crafted: a figure for each quantity, a thin line for each trial.

    Distances to the target stand in one figure for all networks.
    """
    groups: dict[tuple[str, str], list[Craft]] = {}
    for craft in run.crafts:
        groups.setdefault((craft.attack, craft.scenario), []).append(craft)
    traced = sorted(
        ((place, crafts) for place, crafts in groups.items() if any(craft.trace for craft in crafts)),
        key=lambda group: baseline(group[0][0]) is not None,
    )
    drawn: list[Figure] = []
    for k, ((attack, scenario), crafts) in enumerate(traced[:_MOST_GROUPS]):
        where = f"{attack}, {scenario}" if len(groups) > 1 else ""
        together = nearing.nearing(f"n{k}", crafts, where)
        for name in _names([craft.trace for craft in crafts]):
            if nearing.network(name) is not None:
                continue
            lines = [Line(values=craft.trace[name]) for craft in crafts if name in craft.trace][:_MOST_LINES]
            label = f"Line chart: {name} over the steps of crafting, {plural(len(lines), 'trial')}; {_range(lines)}"
            title = "Matching loss" if name == "loss" and "matching" in attack else name.capitalize()
            figure = figures.curves(f"c{len(drawn)}", lines, title=title, across="step", label=label, caption=where)
            drawn.append(replace(figure, main=k == 0))
        drawn += [replace(together, main=k == 0)] if together else []
    return drawn


def training(cell: Cell) -> list[Figure]:
    """How clean, noisy and poisoned networks learned: one figure for each quantity, one thin line for each network."""
    controls: tuple[Control, ...] = ("attack", "noise", "clean")  # the few clean ones are drawn last, on top
    once = {control: _first_rows(cell.group(control)) for control in controls}
    names = _names([victim.curve for victims in once.values() for victim in victims])
    drawn = []
    for k, name in enumerate(names):
        lines = [
            Line(values=victim.curve[name], control=control)
            for control, victims in once.items()
            for victim in victims[:_MOST_LINES]
            if len(victim.curve.get(name, ())) > 1  # one epoch is no curve
        ]
        if not lines:
            continue
        label = f"Line chart: {name} over the epochs of training, {plural(len(lines), 'network')}; {_range(lines)}"
        title = f"Training {name}" if name in ("loss", "accuracy") else name.capitalize()
        drawn.append(figures.curves(f"t{k}", lines, title=title, across="epoch", label=label))
    return drawn


def _first_rows(victims: Sequence[Victim]) -> list[Victim]:
    """One row a training: the first, which has the whole curve (later ones may have loaded the network)."""
    firsts: dict[str, Victim] = {}
    for victim in victims:
        firsts.setdefault(victim.training, victim)
    return list(firsts.values())


def feature_space(cell: Cell) -> list[Pair]:
    """The first trials with a map."""
    pairs: list[Pair] = []
    for trial in sorted({victim.trial for victim in (*cell.poisoned, *cell.clean)}):
        clean, poisoned = _first_map(cell.clean, trial), _first_map(cell.poisoned, trial)
        if poisoned is not None and len(pairs) < _MOST_MAPS:
            pairs.append(
                Pair(
                    trial=trial,
                    clean=_map(f"m{trial}a", clean, "Trained on clean data", trial) if clean else None,
                    poisoned=_map(f"m{trial}b", poisoned, "Trained on poisoned data", trial),
                )
            )
    return pairs


def _names(found: Sequence[Series]) -> list[str]:
    """The names of all series, the loss first."""
    return sorted({name for series in found for name in series}, key=lambda name: (name != "loss", name))


def _varied(group: Sequence[Cell], kind: str) -> dict[str, list[Cell]]:
    """Cells that differ in one setting alone, under what they share in words; only where it takes several values."""
    shared: dict[str, list[Cell]] = {}
    for cell in group:
        craft = cell.crafts[0]
        if craft.radius_value is not None and craft.budget is not None:
            budget = f"{100 * craft.budget:.3g} % of rows"
            fixed = f"{craft.radius.split(' ')[0]}, {budget}" if kind == "radius" else craft.radius
            shared.setdefault(fixed, []).append(cell)
    return {fixed: cells for fixed, cells in shared.items() if len({_setting(cell, kind) for cell in cells}) > 1}


def _setting(cell: Cell, kind: str) -> float:
    value = cell.crafts[0].radius_value if kind == "radius" else cell.crafts[0].budget
    assert value is not None
    return value


def _success_curve(name: str, members: Sequence[Cell], kind: str, title: str) -> Figure:
    ordered = sorted(members, key=lambda cell: _setting(cell, kind))
    controls: tuple[Control, ...] = ("attack", "noise", "clean")
    series = {control: [_point(cell, control, kind) for cell in ordered if cell.group(control)] for control in controls}
    ticks = {_setting(cell, kind): _tick(cell, kind) for cell in ordered}
    parts = [f"{ticks[point.x]}: {percent(point.mean)}" for point in series["attack"]]
    across = "radius" if kind == "radius" else "budget, % of training rows"
    return figures.rates(
        name,
        {control: points for control, points in series.items() if points},
        title=f"Success over {kind}",
        across=across,
        ticks=ticks,
        label=f"Chart: networks hit over {across}. {'; '.join(parts)}",
        caption=title,
    )


def _point(cell: Cell, control: Control, kind: str) -> Point:
    estimate = success(cell.group(control))
    assert estimate is not None
    return Point(x=_setting(cell, kind), mean=estimate.mean, low=estimate.low, high=estimate.high)


def _tick(cell: Cell, kind: str) -> str:
    if kind == "budget":
        return f"{100 * _setting(cell, kind):.3g}"
    text = cell.crafts[0].radius
    return text.split(" ", 1)[1] if " " in text else f"{_setting(cell, kind):.3g}"


def _first_map(victims: Sequence[Victim], trial: int) -> FeatureMap | None:
    judged = networks(victims).trials.get(trial, ())
    return next((victim.map for victim in judged if victim.map is not None), None)


def _map(name: str, plane: FeatureMap, title: str, trial: int) -> Figure:
    counts = {group: plane.groups.count(group) for group in dict.fromkeys(plane.groups)}
    label = f"Scatter plot of trial {trial}, {title.lower()}: {_place(plane)}. "
    return figures.scatter(name, plane, title=title, label=label + ", ".join(f"{n} {g}" for g, n in counts.items()))


def _place(plane: FeatureMap) -> str:
    """Which of the two class centres the target is nearer to, in words."""
    centres = {}
    for group in ("target class", "intended class", "target"):
        points = [point for point, name in zip(plane.points, plane.groups, strict=True) if name == group]
        if not points:
            return "the target among other rows"
        centres[group] = tuple(sum(axis) / len(points) for axis in zip(*points, strict=True))
    own, wanted = (math.dist(centres["target"], centres[group]) for group in ("target class", "intended class"))
    return f"the target lies nearer to the centre of {'its own' if own <= wanted else 'the intended'} class"


def _range(lines: Sequence[Line]) -> str:
    """First and last mean value of some curves, in words."""
    ends = [(line.values[0], line.values[-1]) for line in lines if all(map(math.isfinite, line.values))]
    if not ends:
        return "with gaps"
    first, last = (sum(values) / len(ends) for values in zip(*ends, strict=True))
    return f"from {first:.3g} to {last:.3g} on average"
