"""Published numbers beside ours: which rows they belong to, and whether our interval holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mithridate.report.combinations import Cell, in_base_scenario, success
from mithridate.report.load import Run
from mithridate.report.words import percent

Ours = Literal["below", "above", "agrees", "not run"]
"""Where our whole interval lies: below the published rate, above it, or around it."""


@dataclass(frozen=True, kw_only=True)
class Beside:
    """A published number that belongs to a row of the table."""

    rate: float
    """In [0, 1]."""
    trials: int | None
    source: str
    note: int
    """Number of the source in the footnotes, from 1."""
    ours: Ours
    words: str
    """As in: below the published 85 %; empty where nothing of ours was run."""


def beside(run: Run, cell: Cell) -> list[Beside]:
    """What others published for an undefended attack in the base scenario; none for other rows."""
    if cell.defense != "none" or not in_base_scenario(run, cell):
        return []
    notes = sources(run)
    found = []
    for each in run.published:
        if (each.attack, each.victim) == (cell.attack, cell.victim):
            ours = _ours(cell, each.rate)
            found.append(
                Beside(
                    rate=each.rate,
                    trials=each.trials,
                    source=each.source,
                    note=notes.index(each.source) + 1,
                    ours=ours,
                    words=_words(ours, each.rate),
                )
            )
    return found


def sources(run: Run) -> list[str]:
    """The sources of published numbers, in the order of their footnotes."""
    return list(dict.fromkeys(each.source for each in run.published))


def sentences(found: Sequence[Beside]) -> list[str]:
    """Published numbers in full, for the verdict."""
    said = []
    for each in found:
        trials = f" over {each.trials} trials" if each.trials else ""
        said.append(f"Published: {percent(each.rate)}{trials} ({each.source}). {_judged(each)}")
    return said


def _judged(found: Beside) -> str:
    if found.ours == "agrees":
        return "Our interval holds that rate."
    return f"Our interval lies {found.words}."


def _ours(cell: Cell, rate: float) -> Ours:
    estimate = success(cell.poisoned)
    if estimate is None:
        return "not run"
    if estimate.high < rate:
        return "below"
    return "above" if estimate.low > rate else "agrees"


def _words(ours: Ours, rate: float) -> str:
    if ours == "not run":
        return ""
    place = "the interval holds" if ours == "agrees" else ours
    return f"{place} the published {percent(rate)}"
