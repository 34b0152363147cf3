"""The attacks of one run against each other: over the same trials, for the page and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mithridate.report.combinations import Cell
from mithridate.report.compared import as_row
from mithridate.report.comparing import Pair, attacks, discordant
from mithridate.report.load import Run
from mithridate.report.words import chance, points, signed

_MOST = 10
"""Pairs on the page."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """Two attacks, ready to be shown."""

    pair: Pair
    names: tuple[str, str]
    difference: str
    """In points: the second less the first, with its interval."""
    bootstrap: str
    """The interval by drawing trials anew, in points."""
    discordant: str
    """Trials that one of them alone hit; empty where there are several victims a trial."""
    test: str
    """With its chance, adjusted over all pairs."""
    said: str
    """Which is clearly stronger, or that nothing is clear."""


@dataclass(frozen=True, kw_only=True)
class AttackPairs:
    """Those that the page has room for."""

    lines: tuple[Line, ...]
    left_out: int
    family: int
    """All pairs of the run, for which chances are adjusted."""
    graded: bool


def attack_pairs(run: Run, found: Sequence[Cell], cell: Cell | None) -> AttackPairs | None:
    """Pairs in the scenario and on the victim of ``cell`` first, those with its attack before others; None if none."""
    pairs = list(pairs_of(run, found))
    if not pairs:
        return None
    if cell is not None:
        place = (cell.scenario, cell.victim)
        pairs.sort(key=lambda each: (_place(each) != place, cell.attack not in (each.first.attack, each.second.attack)))
    return AttackPairs(
        lines=tuple(_line(each) for each in pairs[:_MOST]),
        left_out=max(0, len(pairs) - _MOST),
        family=len(pairs),
        graded=pairs[0].first.graded,
    )


def pairs_of(run: Run, found: Sequence[Cell]) -> tuple[Pair, ...]:
    """All of them, which the run remembers."""
    return run.remember("attack pairs", lambda: tuple(attacks(found)))


def rows(run: Run, found: Sequence[Cell]) -> list[dict[str, Any]]:
    """All of them as JSON-able values; differences are the second less the first."""
    return [_row(pair) for pair in pairs_of(run, found)]


def _row(pair: Pair) -> dict[str, Any]:
    split, row = discordant(pair), as_row(pair)
    del row["landed"], row["attack"], row["defense"]  # of defenses, which none of them wears
    row["first"], row["second"] = ({"attack": cell.attack} | row[name] for cell, name in _sides(pair))
    return row | {
        "discordant": {"first_only": split.first_only, "second_only": split.second_only} if split else None,
    }


def _sides(pair: Pair) -> tuple[tuple[Cell, str], tuple[Cell, str]]:
    return (pair.first, "first"), (pair.second, "second")


def _place(pair: Pair) -> tuple[str, str]:
    return pair.first.scenario, pair.first.victim


def _line(pair: Pair) -> Line:
    split, drawn, digits = discordant(pair), pair.bootstrap, 1 if pair.first.graded else 0
    names = tuple(f"{cell.attack} (oracle)" if cell.oracle else cell.attack for cell, _ in _sides(pair))
    stronger = names[1] if pair.difference.mean > 0 else names[0]
    return Line(
        pair=pair,
        names=(names[0], names[1]),
        difference=points(pair.difference, digits),
        bootstrap=" to ".join(signed(100 * each, digits) for each in (drawn.low, drawn.high))
        if drawn and drawn.method != "none"
        else "",
        discordant=f"{split.first_only} against {split.second_only}" if split else "",
        test=f"{pair.test}: {chance(pair.difference.chance)}",
        said=f"{stronger} is clearly stronger" if pair.clear else "no clear difference",
    )
