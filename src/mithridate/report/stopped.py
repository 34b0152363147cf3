"""Runs whose trials were added until a rate was known well enough: the interval that allows for that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mithridate.report.combinations import Cell, by_trial
from mithridate.report.load import Run
from mithridate.report.values import mapping, number, whole
from mithridate.report.words import plural
from mithridate.sequential import Sequential, confidence_sequence


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """How trials were added."""

    width: float
    """How wide an interval of the undefended success was wide enough, in (0, 1)."""
    trials: int
    """So many first ones that counted for the decision."""
    most: int
    """Trials at most."""
    reached: bool
    """Whether the run ended because it was narrow enough."""


def stopping(note: object) -> Stopping | None:
    """What the run folder says of it; None for an ordinary run."""
    found: Mapping[str, Any] = mapping(note)
    width, most = number(found.get("width")), whole(found.get("most"))
    if width is None or most is None:
        return None
    trials = whole(found.get("trials")) or 0
    return Stopping(width=width, trials=trials, most=most, reached=bool(found.get("reached")))


def stopped(run: Run) -> bool:
    """Whether the run stopped on purpose, so that the jobs left of it are not missing."""
    found = stopping(run.sequential)
    return found is not None and found.reached


def notice(run: Run) -> str:
    """As in: Stopped after 5 of 12 trials, because ..; empty for a run that did not stop on purpose."""
    found = stopping(run.sequential)
    if found is None or not found.reached:
        return ""
    return (
        f"Stopped after {found.trials} of {plural(found.most, 'trial')}, because the undefended success was known to "
        f"within {100 * found.width:.3g} points"
    )


def sequential(found: Stopping | None, cell: Cell) -> Sequential | None:
    """The interval of success, by trial means, that holds however often one looked; None for an ordinary run."""
    if found is None or not cell.poisoned:
        return None
    return confidence_sequence([sum(values) / len(values) for values in by_trial(cell.poisoned)])


def sentences(found: Stopping | None) -> list[str]:
    """That the number of trials was chosen by looking at results, and what allows for that and what does not."""
    if found is None:
        return []
    end = "" if found.reached else f" or there were {plural(found.most, 'trial')}"
    return [
        "Stopping was sequential: the number of trials was chosen by looking at results. They were added until the "
        f"interval of the undefended success of every attack was at most {100 * found.width:.3g} points wide{end}. The "
        "95\N{NO-BREAK SPACE}% intervals of success allow for that: they hold however often one looks. Tests and "
        "intervals of differences are those of as many trials fixed in advance."
    ]
