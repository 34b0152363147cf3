"""Trial by trial: the target, what networks made of it before and after, and which networks were hit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mithridate.report import pictures
from mithridate.report.combinations import Cell
from mithridate.report.load import Control, Craft, Run, Target, Victim
from mithridate.report.pictures import Picture
from mithridate.report.remembering import Networks
from mithridate.report.verdict import LABELS, example
from mithridate.report.words import plural, quoted

MOST = 40
"""Trials shown with a card of their own."""
_BARS = 4
"""Classes shown in a card; the rest are summed up."""
_ROOM = 700_000
"""Bytes for pictures of targets."""
_SQUARES = 6000
"""Squares in the table of every network."""
_DENSE = 2000
"""Networks of one combination from which on a square is a whole trial, shaded by its share of hits."""
_WIDE = 100
"""Trials that have a square then; the others are counted."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One class: the mean probability it gets from clean and from poisoned networks, None where none were judged."""

    name: str
    role: str
    before: float | None
    after: float | None


@dataclass(frozen=True, kw_only=True)
class Square:
    """One network: whether it was hit, and in words what it said."""

    share: float
    title: str


@dataclass(frozen=True, kw_only=True)
class Strip:
    """The networks of one control."""

    control: Control
    label: str
    squares: tuple[Square, ...]
    text: str


@dataclass(frozen=True, kw_only=True)
class Card:
    """One trial."""

    trial: int
    what: str
    """What the poisoner wants of the first target, in words."""
    more: int
    """Further targets."""
    picture: Picture | None
    bars: tuple[Bar, ...]
    strips: tuple[Strip, ...]


@dataclass(frozen=True, kw_only=True)
class StripRow:
    """All trials of one combination, for the table of every network."""

    cell: Cell
    trials: tuple[tuple[str, tuple[Strip, ...]], ...]
    """What the strips are of (``trial 3``), and the strips: one for each control."""


def numbers(cell: Cell) -> list[int]:
    """The trials of a combination, crafted or judged."""
    return sorted({victim.trial for victim in cell.poisoned} | {craft.trial for craft in cell.crafts})


def cards(run: Run, cell: Cell) -> list[Card]:
    """One card for each of the first trials of a combination."""
    found, used = [], 0
    crafts = {craft.trial: craft for craft in reversed(cell.crafts)}
    for number in numbers(cell)[:MOST]:
        target = _target(cell, number)
        craft = crafts.get(number)
        picture = target_picture(run, craft, target) if used < _ROOM else None
        used += pictures.weight([picture])
        found.append(
            Card(
                trial=number,
                what=example(run, target) if target else "",
                more=max((len(v.targets) for v in of_trial(cell.poisoned, number)), default=1) - 1,
                picture=picture,
                bars=_bars(run, cell, number, target),
                strips=strips(run, cell, number),
            )
        )
    return found


def target_picture(run: Run, craft: Craft | None, target: Target | None) -> Picture | None:
    """The first target of a trial, where its poison set holds it."""
    rows = pictures.rows(run, craft, 1) if craft else None
    if rows is None or not len(rows.targets):
        return None
    name = quoted(run.class_name(target.true)) if target else "the target"
    return pictures.picture(rows.targets[0], f"The target: an image of class {name}")


def strips(run: Run, cell: Cell, number: int) -> tuple[Strip, ...]:
    """The networks of one trial, one strip for each control that was run."""
    found = []
    controls: tuple[Control, ...] = ("attack", "noise", "clean")
    for control in controls:
        victims = of_trial(cell.group(control), number)
        if victims:
            squares = tuple(Square(share=victim.success, title=_said(run, victim)) for victim in victims)
            text = f"{LABELS[control]}: {_hit(victims)}"
            found.append(Strip(control=control, label=LABELS[control], squares=squares, text=text))
    return tuple(found)


def every_network(run: Run, found: Sequence[Cell]) -> list[StripRow]:
    """The strips of every combination with results, as many as there is room for."""
    rows: list[StripRow] = []
    room = _SQUARES
    for cell in found:
        judged = sorted({victim.trial for victim in cell.poisoned})
        count = len(cell.poisoned) + len(cell.noise) + len(cell.clean)
        dense = count > _DENSE and len(judged) > 1
        room -= 3 * min(_WIDE, len(judged)) if dense else count
        if judged and (room >= 0 or not rows):
            each = (_dense(cell, judged),) if dense else tuple((f"trial {n}", strips(run, cell, n)) for n in judged)
            rows.append(StripRow(cell=cell, trials=each))
    return rows


def _dense(cell: Cell, judged: Sequence[int]) -> tuple[str, tuple[Strip, ...]]:
    """One strip for each control with one square a trial, as many as there is room for; the others are counted."""
    shown, rest = judged[:_WIDE], set(judged[_WIDE:])
    controls: tuple[Control, ...] = ("attack", "noise", "clean")
    drawn = []
    for control in controls:
        groups = [(number, of_trial(cell.group(control), number)) for number in shown]
        squares = tuple(Square(share=_share(group), title=f"Trial {n}: {_hit(group)}") for n, group in groups if group)
        if squares:
            text = f"{LABELS[control]}, {plural(len(squares), 'trial')}: {_hit([v for _, g in groups for v in g])}"
            drawn.append(Strip(control=control, label=LABELS[control], squares=squares, text=text))
    label = f"trials {shown[0]} to {shown[-1]}, one square each"
    left = [victim for victim in cell.poisoned if victim.trial in rest]
    return (f"{label}; in {plural(len(rest), 'further trial')} {_hit(left)}" if left else label), tuple(drawn)


def of_trial(victims: Sequence[Victim], number: int) -> Sequence[Victim]:
    """The networks of one trial."""
    if isinstance(victims, Networks):
        return victims.trials.get(number, ())
    return [victim for victim in victims if victim.trial == number]


def _share(victims: Sequence[Victim]) -> float:
    return sum(victim.success for victim in victims) / len(victims)


def _hit(victims: Sequence[Victim]) -> str:
    """As in: 3 of 4 networks hit."""
    return f"{sum(victim.success for victim in victims):g} of {plural(len(victims), 'network')} hit"


def _target(cell: Cell, number: int) -> Target | None:
    """The first target of a trial, as any network of it saw it."""
    groups = (of_trial(group, number) for group in (cell.poisoned, cell.noise, cell.clean))
    return next((victim.targets[0] for group in groups for victim in group if victim.targets), None)


def _said(run: Run, victim: Victim) -> str:
    """One network's answer in words."""
    if not victim.whole and victim.judged == 1:
        answer = "hit" if victim.success else "not hit"
    elif len(victim.targets) == 1:
        answer = f"called it {quoted(run.class_name(victim.targets[0].predicted))}"
    else:
        answer = f"hit on {round(victim.success * victim.judged)} of {victim.judged} targets"
    return f"Run {victim.run}: {answer}"


def _bars(run: Run, cell: Cell, number: int, target: Target | None) -> tuple[Bar, ...]:
    """Mean probabilities of the first target: its class, the wanted one, then the largest others."""
    if target is None:
        return ()
    before, after = _probabilities(cell.clean, number), _probabilities(cell.poisoned, number)
    count = max(len(before), len(after))
    if not count:
        return ()
    first = [label for label in (target.true, target.wanted) if label is not None and label < count]
    rest = [label for label in range(count) if label not in first]
    rest.sort(key=lambda label: -max(values[label] for values in (before, after) if len(values) > label))
    shown = [*first, *rest[: _BARS - len(first)]]
    roles = {target.wanted: "what the poisoner wants", target.true: "the true class"}
    bars = [
        Bar(
            name=run.class_name(label),
            role=roles.get(label, ""),
            before=_at(before, [label]),
            after=_at(after, [label]),
        )
        for label in shown
    ]
    others = [label for label in range(count) if label not in shown]
    if others:
        bars.append(Bar(name="all others", role="", before=_at(before, others), after=_at(after, others)))
    return tuple(bars)


def _probabilities(victims: Sequence[Victim], number: int) -> list[float]:
    """The mean over networks of the probabilities they give the first target of a trial; empty where none did."""
    found = [v.targets[0].probabilities for v in of_trial(victims, number) if v.targets]
    found = [values for values in found if values and len(values) == len(found[0])]
    return [sum(column) / len(found) for column in zip(*found, strict=True)]


def _at(values: Sequence[float], labels: Sequence[int]) -> float | None:
    if not values:
        return None
    return min(1.0, sum(values[label] for label in labels if label < len(values)))
