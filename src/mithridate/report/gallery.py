"""The gallery: what the poisoner changed, as clean original, poison, and the difference made visible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mithridate.report import pictures
from mithridate.report.load import Craft, Run
from mithridate.report.pictures import Picture, Rows
from mithridate.report.words import quoted

_POISONS = 8
"""Rows shown of one poison set."""
_TRIALS = 3
"""Poison sets shown of the first attack and scenario; one of each other."""
ROOM = 1_100_000
"""Bytes for all pictures of the gallery."""


@dataclass(frozen=True, kw_only=True)
class Triple:
    """One poisoned row."""

    caption: str
    base: Picture | None
    poison: Picture
    difference: Picture | None


@dataclass(frozen=True, kw_only=True)
class Wall:
    """The pictures of one poison set, or the reason why there are none."""

    attack: str
    scenario: str
    trial: int
    rows: int
    triples: tuple[Triple, ...]
    factor: int
    reason: str
    """Why pictures are missing; empty where none are."""
    main: bool
    """Whether it belongs to the first attack and scenario."""


def walls(run: Run, *, room: int = ROOM) -> list[Wall]:
    """The first rows of the first poison sets, as many as there is room for, in bytes."""
    found, used = [], 0
    for craft in _picked(run.crafts):
        wall = _wall(run, craft)
        size = sum(pictures.weight([each.base, each.poison, each.difference]) for each in wall.triples)
        if used and used + size > room:
            break
        used += size
        found.append(wall)
    return found


def _picked(crafts: Sequence[Craft]) -> list[Craft]:
    """A few trials of the first attack and scenario, then one trial of each other."""
    groups: dict[tuple[str, str], list[Craft]] = {}
    for craft in crafts:
        groups.setdefault((craft.attack, craft.scenario), []).append(craft)
    first, *others = groups.values() or [[]]
    by_trial = sorted(first, key=lambda craft: craft.trial)
    return [*by_trial[:_TRIALS], *(min(group, key=lambda craft: craft.trial) for group in others)]


def _wall(run: Run, craft: Craft) -> Wall:
    rows = pictures.rows(run, craft, _POISONS)
    triples: tuple[Triple, ...] = ()
    factor, reason = 1, "The poison set is not in the run folder, or cannot be read."
    if rows is not None:
        factor = pictures.amplification(rows.inputs, rows.base) if rows.base is not None else 1
        triples = tuple(each for k in range(len(rows.inputs)) if (each := _triple(run, rows, k, factor)))
        reason = _reason(rows, triples)
    return Wall(
        attack=craft.attack,
        scenario=craft.scenario,
        trial=craft.trial,
        rows=craft.rows,
        triples=triples,
        factor=factor,
        reason=reason,
        main=(craft.attack, craft.scenario) == (run.crafts[0].attack, run.crafts[0].scenario),
    )


def _reason(rows: Rows, triples: Sequence[Triple]) -> str:
    if not len(rows.inputs):
        return "No row was poisoned."
    if not triples:
        return "These rows are no grey or colour images, so there is nothing to show."
    return "" if rows.base is not None else "The clean originals are not stored, so no difference can be shown."


def _triple(run: Run, rows: Rows, k: int, factor: int) -> Triple | None:
    label = quoted(run.class_name(rows.labels[k])) if k < len(rows.labels) else "an image"
    row = f"row {rows.ids[k]}" if k < len(rows.ids) else f"row {k} of the set"
    poison = pictures.picture(rows.inputs[k], f"Poisoned {row}, labelled {label}")
    if poison is None:
        return None
    base = changed = None
    if rows.base is not None:
        base = pictures.picture(rows.base[k], f"Clean original of {row}")
        shown = pictures.difference(rows.inputs[k], rows.base[k], factor)
        changed = pictures.picture(shown, f"What was changed in {row}, {factor} times amplified")
    return Triple(caption=f"{label}, {row}", base=base, poison=poison, difference=changed)
