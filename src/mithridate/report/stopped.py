"""Runs whose trials were added until a rate was known well enough: the interval that allows for that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mithridate.report.combinations import Cell, by_trial
from mithridate.report.values import mapping, number, whole
from mithridate.report.words import percent, plural
from mithridate.sequential import Sequential, confidence_sequence


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """How trials were added."""

    width: float
    """How wide an interval of the undefended success was wide enough, in (0, 1)."""
    most: int
    """Trials at most."""
    reached: bool
    """Whether it was narrow enough before the last trial."""


def stopping(note: object) -> Stopping | None:
    """What the run folder says of it; None for an ordinary run."""
    found: Mapping[str, Any] = mapping(note)
    width, most = number(found.get("width")), whole(found.get("most"))
    if width is None or most is None:
        return None
    return Stopping(width=width, most=most, reached=bool(found.get("reached")))


def sequential(found: Stopping | None, cell: Cell) -> Sequential | None:
    """The interval of success, by trial means, that holds however often one looked; None for an ordinary run."""
    if found is None or not cell.poisoned:
        return None
    return confidence_sequence([sum(values) / len(values) for values in by_trial(cell.poisoned)])


def sentences(found: Stopping | None, cell: Cell) -> list[str]:
    """That stopping was sequential, and the interval that is valid all the same."""
    interval = sequential(found, cell)
    if found is None or interval is None:
        return []
    end = "" if found.reached else f" or there were {plural(found.most, 'trial')}"
    bounds = f"{100 * interval.low:.0f}–{100 * interval.high:.0f}\N{NO-BREAK SPACE}%"
    return [
        f"Stopping was sequential: trials were added until the interval of the undefended success of every attack was "
        f"at most {100 * found.width:.3g} points wide{end}. The 95 % interval that holds however often one looks is "
        f"{bounds} (mean of {plural(interval.trials, 'trial')}: {percent(interval.mean)})."
    ]
