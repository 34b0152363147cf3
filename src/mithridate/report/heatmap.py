"""The heat map of a campaign: success by attack and defense, with its interval and sample, and who earned credit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mithridate.report.degrading import Degradation
from mithridate.report.entries import Board, Column, Entry, Line
from mithridate.report.verdict import Standing
from mithridate.report.words import bounds, fine, interval, percent, plural, points
from mithridate.stats import Estimate

_MOST = 2400
"""Places on the page."""
_WIDEST = 48
"""Columns of one map."""
_DARKEST = 46
"""Colour of a success of 100 %, in % of the full one: text must stay legible on it."""
_STRONG = 0.1
"""A rise of the error that has the full colour, unless there is a larger one."""
_STANDING: dict[Standing, str] = {
    "landed": "",
    "unclear": "may have landed: no credit",
    "missed": "did not land: no credit",
    "uncontrolled": "no clean control: no credit",
}


@dataclass(frozen=True, kw_only=True)
class Place:
    """One attack against one defense, ready to be shown."""

    kind: str
    """``run``, ``failed`` or ``absent``."""
    text: str
    """The rate, or why there is none."""
    interval: str
    """Without brackets; empty where there is none."""
    notes: tuple[str, ...]
    """What is said below: trials where they are not the usual number, what failed."""
    title: str
    """All of it in words."""
    shade: float
    """How dark, in % of the full colour."""
    credited: bool
    credit: bool
    """Whether a defense can earn credit in this line: its attack landed."""
    oracle: bool


@dataclass(frozen=True, kw_only=True)
class Row:
    """One attack."""

    attack: str
    standing: str
    """Why no defense is credited here; empty where the attack landed."""
    places: tuple[Place, ...]


@dataclass(frozen=True, kw_only=True)
class Heatmap:
    """One scenario and victim."""

    name: str
    """Of the scenario and the victim."""
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    sample: str
    """The usual sample of a place, in words; empty where nothing was run."""
    left_out: int
    """Columns without a place on the page."""


@dataclass(frozen=True, kw_only=True)
class Heatmaps:
    """All that the page has room for."""

    maps: tuple[Heatmap, ...]
    left_out: int
    """Maps without a place on the page."""
    controls: bool
    absent: bool
    failed: bool
    oracle: bool
    credited: bool
    uncredited: bool
    """Whether a legend is needed for each of these."""
    one_victim: bool


def heatmaps(boards: Sequence[Board], goal: Degradation | None = None) -> Heatmaps | None:
    """The maps of all boards that have results, as many as there is room for; None where there is none."""
    judged = [board for board in boards if any(entry.success for line in board.lines for entry in line.entries)]
    kept: list[Heatmap] = []
    room = _MOST
    for board in judged:
        room -= len(board.lines) * min(_WIDEST, len(board.columns))
        if room >= 0 or not kept:
            kept.append(_heatmap(board, goal))
    if not kept:
        return None
    places = [place for each in kept for row in each.rows for place in row.places]
    return Heatmaps(
        maps=tuple(kept),
        left_out=len(judged) - len(kept),
        controls=any(column.control_of for each in kept for column in each.columns),
        absent=any(place.kind == "absent" for place in places),
        failed=any(place.kind == "failed" for place in places),
        oracle=any(column.oracle for each in kept for column in each.columns),
        credited=any(place.credited for place in places),
        uncredited=any(not place.credit for place in places),
        one_victim=len({board.victim for board in judged}) == 1,
    )


def _heatmap(board: Board, goal: Degradation | None) -> Heatmap:
    samples = [_sample(entry.success) for line in board.lines for entry in line.entries if entry.success]
    usual = Counter(samples).most_common(1)[0][0]
    rises = [entry.rise.mean for line in board.lines for entry in line.entries if entry.rise]
    most = max([_STRONG, *rises])
    return Heatmap(
        name=f"{board.scenario}, {board.victim}",
        columns=board.columns[:_WIDEST],
        rows=tuple(_row(line, usual, most, goal) for line in board.lines),
        sample=usual,
        left_out=max(0, len(board.columns) - _WIDEST),
    )


def _row(line: Line, usual: str, most: float, goal: Degradation | None) -> Row:
    said = _STANDING[line.standing] if line.standing else "not run without a defense: no credit"
    places = tuple(_place(line, entry, usual, most, goal) for entry in line.entries[:_WIDEST])
    return Row(attack=line.attack, standing=said, places=places)


def _place(line: Line, entry: Entry, usual: str, most: float, goal: Degradation | None) -> Place:
    landed, found = line.standing == "landed", entry.success
    credited = landed and entry.worth in ("beyond", "lower") and not entry.oracle
    if found is None:
        kind, text, range_, shade = ("failed" if entry.failed else "absent"), _missing(entry), "", 0.0
    else:
        kind, text, range_ = "run", fine(found.mean) if goal else percent(found.mean), _range(found, goal)
        share = max(0.0, entry.rise.mean if entry.rise else 0.0) / most if goal else found.mean
        shade = _DARKEST * min(1.0, share)
    return Place(
        kind=kind,
        text=text,
        interval=range_,
        notes=_notes(entry, usual),
        title=_title(line, entry, credited, goal),
        shade=shade,
        credited=credited,
        credit=landed or found is None or entry.defense == "none",
        oracle=entry.oracle,
    )


def _notes(entry: Entry, usual: str) -> tuple[str, ...]:
    """What a reader without a mouse must be told in the place itself."""
    notes = []
    if entry.success and _sample(entry.success) != usual:
        notes.append(plural(entry.success.trials, "trial"))
    if entry.success and entry.failed:
        notes.append(f"{entry.failed} failed")
    return tuple(notes)


def _title(line: Line, entry: Entry, credited: bool, goal: Degradation | None) -> str:
    """All that is known of a place, in words."""
    where = f"{line.attack}, {'no defense' if entry.defense == 'none' else entry.defense}"
    found = entry.success
    if found is None:
        return f"{where}: {_missing(entry)}"
    measure = f"{goal.noun} {fine(found.mean)}" if goal else f"{percent(found.mean)} of networks hit"
    parts = [measure]
    if found.trials > 1 or not goal:
        parts.append(f"95 % interval {bounds(found) if goal else interval(found)}")
    parts.append(_sample(found))
    if entry.rise:
        parts.append(f"{points(entry.rise, 1)} over clean data" if entry.rise.trials > 1 else "one trial")
    parts += ["an oracle: it rests on what nobody can know outside an experiment"] if entry.oracle else []
    parts += ["clearly lower than without a defense, and credited"] if credited else []
    parts += (
        ["no credit, because the attack has not clearly landed"]
        if line.standing != "landed" and entry.defense != "none"
        else []
    )
    parts += [f"{entry.failed} of its jobs failed"] if entry.failed else []
    return f"{where}: {', '.join(parts)}"


def _missing(entry: Entry) -> str:
    return "failed" if entry.failed else "not run"


def _range(found: Estimate, goal: Degradation | None) -> str:
    if goal:
        return bounds(found) if found.trials > 1 else ""
    return interval(found).removesuffix("\N{NO-BREAK SPACE}%")


def _sample(found: Estimate) -> str:
    return f"{plural(found.trials, 'trial')}, {plural(found.victims, 'network')}"
