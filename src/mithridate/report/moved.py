"""The poison rows against their origins: which features moved, most first, or two pictures; and the labels.

Where the origins are not stored (rows may begin as ones that nobody trains on), what the rows hold stands instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mithridate.report import pictures
from mithridate.report.columns import Feature, Floats, features
from mithridate.report.combinations import Cell
from mithridate.report.load import Craft, Run
from mithridate.report.pictures import Picture, Rows
from mithridate.report.words import plural, quoted

_ATTACKS = 4
"""Attacks whose rows are shown."""
_ROWS = 6
"""Rows of tables, and rows of pictures below, that are shown of each."""
_PICTURES = 12
_CHANGES = 7
"""Features named of one row."""
_BARS = 12
"""Features in the list over all rows."""
_SETS = 20
"""Poison sets that the list is over."""
_READ = 5000
"""Rows read of one poison set."""
FIRST_APPENDED = 1 << 40
"""Ids from here on are of rows that were added to the training set (see :mod:`mithridate.poison`)."""
_STILL = 1e-6
"""Change that is none, in ranges of a column."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One feature of one row."""

    name: str
    old: str
    new: str
    share: float
    """In ranges of the column, signed."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One poison row beside its origin; ``changes`` for tables, pictures for images.

    Without an origin ``changes`` are the features farthest above the least value of their column.
    """

    title: str
    old: str
    """Label of the origin; empty where it is not known."""
    new: str
    changes: tuple[Change, ...]
    more: int
    """Further features that moved."""
    origin: Picture | None
    poison: Picture | None


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One feature over all rows."""

    name: str
    share: float
    """Mean distance moved, in ranges of the column."""
    rows: float
    """Share of the rows in which it moved."""
    trend: str
    """``up`` or ``down`` where nearly all rows moved it that way; else empty."""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """The rows of one attack."""

    attack: str
    scenario: str
    trial: int
    rows: int
    reason: str
    """Why there is nothing to see; empty where there is."""
    compared: bool
    """Whether the origins are stored."""
    shown: tuple[Shown, ...]
    bars: tuple[Bar, ...]
    sets: int
    """Poison sets that ``bars`` is over."""
    mean: Picture | None
    """Images: where pixels changed most, on average over the rows."""


def moved(run: Run, found: Sequence[Cell], cell: Cell) -> list[Moved]:
    """The rows of the attacks in the scenario of ``cell``, its own attack first."""
    crafts: dict[str, tuple[Craft, ...]] = {}
    for each in sorted(found, key=lambda each: each.attack != cell.attack):
        if each.scenario == cell.scenario and each.crafts:
            crafts.setdefault(each.attack, each.crafts)
    return [_moved(run, sorted(each, key=lambda craft: craft.trial)) for each in list(crafts.values())[:_ATTACKS]]


def _moved(run: Run, crafts: Sequence[Craft]) -> Moved:
    first = crafts[0]
    rows = pictures.rows(run, first, _READ)
    shown: tuple[Shown, ...] = ()
    bars: tuple[Bar, ...] = ()
    reason, mean, sets = _reason(rows), None, 0
    if rows is not None and not reason:
        named = features(run.folder / first.folder, _width(rows)) if rows.inputs.ndim == 2 else []
        shown = tuple(_shown(run, rows, k, named) for k in range(min(_ROWS if named else _PICTURES, len(rows.inputs))))
        mean = _heat(rows)
        if named:
            every = [rows, *(each for craft in crafts[1:_SETS] if (each := pictures.rows(run, craft, _READ)))]
            bars, sets = _bars(named, every), len(every)
    return Moved(
        attack=first.attack,
        scenario=first.scenario,
        trial=first.trial,
        rows=first.rows,
        reason=reason,
        compared=rows is not None and rows.base is not None,
        shown=shown,
        bars=bars,
        sets=sets,
        mean=mean,
    )


def _reason(rows: Rows | None) -> str:
    if rows is None:
        return "The poison set is not in the run folder, or cannot be read."
    if not len(rows.inputs):
        return "No row was poisoned."
    if rows.inputs.ndim != 2 and pictures.picture(rows.inputs[0], "") is None:
        return "These rows are neither tables nor grey or colour images, so there is nothing to show."
    return ""


def _origins(rows: Rows, named: Sequence[Feature]) -> Floats:
    """The clean rows, or the least value of every column where they are not stored. ``(N, D)``."""
    if rows.base is not None:
        return rows.base
    least = np.zeros(_width(rows))
    for each in named:
        least[list(each.places)] = each.low
    return np.broadcast_to(least, rows.inputs.shape)


def _width(rows: Rows) -> int:
    return int(rows.inputs.shape[1])


def _shown(run: Run, rows: Rows, k: int, named: Sequence[Feature]) -> Shown:
    old, new = (
        quoted(run.class_name(labels[k])) if k < len(labels) else "" for labels in (rows.base_labels, rows.labels)
    )
    changes = _changes(rows, k, named)
    clean = f"The clean row that poison row {k + 1} began as: {old}"
    return Shown(
        title=_title(rows, k),
        old=old,
        new=new,
        changes=tuple(changes[:_CHANGES]),
        more=len(changes[_CHANGES:]),
        origin=None if named or rows.base is None else pictures.picture(rows.base[k], clean),
        poison=None if named else pictures.picture(rows.inputs[k], f"Poison row {k + 1}, labelled {new}"),
    )


def _title(rows: Rows, k: int) -> str:
    """Which row it is, and which one it began as: the same where it replaces that."""
    began = rows.base_ids[k] if k < len(rows.base_ids) else None
    own = rows.ids[k] if k < len(rows.ids) else None
    if began is None or began >= FIRST_APPENDED:
        return f"Poison row {k + 1}"
    return f"Training row {own}" if own == began else f"Poison row {k + 1}, from row {began}"


def _changes(rows: Rows, k: int, named: Sequence[Feature]) -> list[Change]:
    """The features of one row that moved, most first."""
    inputs, base = rows.inputs[k : k + 1], _origins(rows, named)[k : k + 1]
    found = [
        Change(
            name=each.name,
            old=each.value(base[0]) if rows.base is not None else "",
            new=each.value(inputs[0]),
            share=share,
        )
        for each in named
        if abs(share := float(each.moves(inputs, base)[0])) > _STILL
    ]
    return sorted(found, key=lambda change: -abs(change.share))


def _bars(named: Sequence[Feature], every: Sequence[Rows]) -> tuple[Bar, ...]:
    """The features that moved most, on average over the rows of all sets."""
    alike = (every[0].inputs.shape[1:], every[0].base is None)
    known = [rows for rows in every if (rows.inputs.shape[1:], rows.base is None) == alike]
    inputs = np.concatenate([rows.inputs for rows in known])
    base = np.concatenate([_origins(rows, named) for rows in known])
    found = [_bar(each, each.moves(inputs, base)) for each in named]
    kept = sorted((each for each in found if each.share > _STILL), key=lambda each: -each.share)
    return tuple(kept[:_BARS])


def _bar(feature: Feature, moves: Floats) -> Bar:
    still = np.abs(moves) <= _STILL
    signs = np.sign(moves[~still])
    one_way = len(signs) > 0 and abs(float(signs.mean())) > 0.9 and feature.kind != "one-hot"
    return Bar(
        name=feature.name,
        share=float(np.abs(moves).mean()),
        rows=float((~still).mean()),
        trend=("up" if signs.mean() > 0 else "down") if one_way else "",
    )


def _heat(rows: Rows) -> Picture | None:
    """The mean change of every pixel, the largest drawn white."""
    if rows.inputs.ndim != 4 or rows.base is None:
        return None
    change = np.abs(rows.inputs - rows.base).mean((0, 1))[None]
    largest = float(change.max())
    if largest <= _STILL:
        return None
    alt = f"Mean change of each pixel over {plural(len(rows.inputs), 'row')}: white is {largest:.2f} of the range"
    return pictures.picture(change / largest, alt)
