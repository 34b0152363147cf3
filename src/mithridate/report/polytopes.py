"""Where the poison of feature-space attacks lies: a figure for each surrogate, with the numbers it cannot show."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from mithridate.report import feature_drawings
from mithridate.report.combinations import cells
from mithridate.report.figures import Figure
from mithridate.report.load import Craft, Run
from mithridate.report.planes import Polytope
from mithridate.report.remembering import networks
from mithridate.report.verdict import hits_of
from mithridate.report.words import length, plural

_MOST_GROUPS = 4
"""Attacks and scenarios that are shown."""
_MOST_TRIALS = 3
_MOST_NETWORKS = 4
"""Of each trial."""
_MOST_SHARES = 40
"""Bars of coefficients in one figure."""


@dataclass(frozen=True, kw_only=True)
class Shares:
    """The coefficients of the convex combination nearest to the target, as bars."""

    bars: tuple[float, ...]
    """In [0, 1]; in the order of the rows, or the largest of very many."""
    top: float
    """The end of the scale: 1, or the largest of very many."""
    equal: float
    """What each would be if all were equal."""
    count: int
    """Poisoned rows."""
    label: str


@dataclass(frozen=True, kw_only=True)
class View:
    """One surrogate's view of one trial."""

    title: str
    figure: Figure | None
    shares: Shares | None
    distances: str


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial, with what came of it."""

    trial: int
    outcome: str
    views: tuple[View, ...]
    more: int
    """Networks that are not drawn."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """One attack in one scenario."""

    title: str
    overall: str
    trials: tuple[Trial, ...]

    @property
    def single(self) -> bool:
        """Whether each trial has one network alone, so that trials can stand side by side."""
        return all(len(each.views) == 1 and not each.more for each in self.trials)


def polytopes(run: Run) -> list[Group]:
    """The first trials of every feature-space attack, as the surrogates saw its finished poison."""
    groups: dict[tuple[str, str], dict[int, Craft]] = {}
    for craft in run.crafts:
        if craft.polytopes:
            groups.setdefault((craft.attack, craft.scenario), {}).setdefault(craft.trial, craft)
    return [
        _group(run, f"p{k}", [crafts[trial] for trial in sorted(crafts)])
        for k, crafts in enumerate(list(groups.values())[:_MOST_GROUPS])
    ]


def _group(run: Run, name: str, crafts: Sequence[Craft]) -> Group:
    return Group(
        title=f"{crafts[0].attack}, {crafts[0].scenario}",
        overall=_overall(crafts),
        trials=tuple(_trial(run, f"{name}-{craft.trial}", craft) for craft in crafts[:_MOST_TRIALS]),
    )


def _trial(run: Run, name: str, craft: Craft) -> Trial:
    shown = craft.polytopes[:_MOST_NETWORKS]
    alone = len(craft.polytopes) == 1
    return Trial(
        trial=craft.trial,
        outcome=_outcome(run, craft),
        views=tuple(
            _view(f"{name}-{k}", each, each.network if alone else f"Network {k + 1}: {each.network}", craft.trial)
            for k, each in enumerate(shown)
        ),
        more=len(craft.polytopes) - len(shown),
    )


def _view(name: str, polytope: Polytope, title: str, trial: int) -> View:
    found, plane = distances(polytope), polytope.plane
    figure = None
    if plane is not None:
        groups = "class and base rows, the polygon of the poison, and the target"
        spoken = f"Scatter plot of trial {trial} in {polytope.network}: {groups}. {found}"
        figure = feature_drawings.surrounded(name, plane, title=title, label=spoken)
    return View(title=title, figure=figure, shares=_shares(polytope.coefficients), distances=found)


def distances(polytope: Polytope) -> str:
    """How far the target is from the poison and from the untouched rows, in words."""
    text = f"Target to hull {length(polytope.hull)}, to mean {length(polytope.mean)}"
    if polytope.clean_hull is not None or polytope.clean_mean is not None:
        text += f"; untouched rows {length(polytope.clean_hull)} and {length(polytope.clean_mean)}"
    return f"{text} (in lengths of the target)."


def _shares(coefficients: Sequence[float]) -> Shares | None:
    if not coefficients:
        return None
    count, many = len(coefficients), len(coefficients) > _MOST_SHARES
    bars = sorted(coefficients, reverse=True)[:_MOST_SHARES] if many else coefficients
    what = f"The largest {len(bars)} of {count} coefficients" if many else f"{plural(count, 'coefficient')}"
    spoken = ", ".join(f"{each:.2f}" for each in bars)
    label = f"{what}: {spoken}; equal ones would be {length(1 / count)}"
    return Shares(bars=tuple(bars), top=max(bars) if many else 1.0, equal=1 / count, count=count, label=label)


def _outcome(run: Run, craft: Craft) -> str:
    """How many undefended networks of the trial did what the poisoner wanted; empty where none was judged."""
    place = (craft.attack, craft.scenario, "none")
    same = [cell for cell in cells(run) if (cell.attack, cell.scenario, cell.defense) == place]
    judged = [victim for cell in same for victim in networks(cell.poisoned).trials.get(craft.trial, ())]
    if not judged:
        return ""
    hits, total, unit = hits_of(judged)
    return f"{hits} of {plural(total, unit)} hit"


def _overall(crafts: Sequence[Craft]) -> str:
    """The distances over all trials and networks, in one sentence."""
    every = [each for craft in crafts for each in craft.polytopes]
    names = list(dict.fromkeys(each.network for each in every))
    count = max(len(craft.polytopes) for craft in crafts)
    networks = f"{count} networks" if count > 1 else f"one network ({names[0]})"
    where = f"Over {plural(len(crafts), 'trial')} and {networks}"
    hull, mean, clean_hull, clean_mean = (
        _median([value for value in values if value is not None])
        for values in zip(*((e.hull, e.mean, e.clean_hull, e.clean_mean) for e in every), strict=True)
    )
    return (
        f"{where}, the median distance from the target to the hull of the poison is {hull} lengths of the target, "
        f"and to its mean {mean}; of the untouched rows it is {clean_hull} and {clean_mean}."
    )


def _median(values: Sequence[float]) -> str:
    """A median with the smallest and the largest value."""
    if len(values) < 2:
        return length(values[0] if values else None)
    return f"{length(statistics.median(values))} ({length(min(values))} to {length(max(values))})"
