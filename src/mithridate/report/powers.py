"""What the trials of a run can tell apart, for its summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mithridate.power import COUNTED, above, below, rounded, sentence
from mithridate.report.combinations import Cell, by_trial, chosen
from mithridate.stats import worth_of


def power(found: Sequence[Cell]) -> dict[str, Any] | None:
    """The power of the trials that the verdict is about, in words and as rates; None where success is a mean share.

    ``below`` and ``above`` are the nearest rates in whole per cent that these trials can tell from their own: None
    where there is none.
    """
    cell = chosen(found)
    if cell is None or cell.graded or not cell.poisoned:
        return None
    groups = by_trial(cell.poisoned)
    worth, rate = worth_of(groups), sum(map(sum, groups)) / len(cell.poisoned)
    counted = min(int(worth), COUNTED)
    return {
        "attack": cell.attack,
        "scenario": cell.scenario,
        "victim": cell.victim,
        "defense": cell.defense,
        "trials": len(groups),
        "worth_victims": worth,
        "rate": rate,
        "below": below(counted, rounded(rate)),
        "above": above(counted, rounded(rate)),
        "sentence": sentence(groups),
    }
