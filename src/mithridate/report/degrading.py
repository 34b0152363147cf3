"""What an attack that degrades was after, as the settings of its run say it: any error, or one confusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mithridate.report.values import mapping
from mithridate.report.words import quoted

BASELINES = {"random-flips": "random label flips", "loss-flips": "label flips chosen by their loss"}
"""Attacks that change labels alone, which every other one must beat, and what they are in words."""


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """The goal of making a victim wrong, and how its poison is made. Success is then a mean share of test rows."""

    source: int | None
    """Error-specific: the class to be mistaken; None where any error counts."""
    intended: int | None
    """Error-specific: the class it is to be mistaken for."""
    confusion: str
    """Error-specific: “8” called “3”; empty where any error counts."""
    appended: bool
    """Whether the poison is added to the clean rows, and does not replace some."""
    dirty: bool
    """Whether the poisoner chooses labels."""

    @property
    def noun(self) -> str:
        """What is measured, in a sentence: the error."""
        return f"the share of {self.confusion}" if self.confusion else "the error"

    @property
    def heading(self) -> str:
        """What is measured, at the head of a column or an axis: Error."""
        return self.confusion or "Error"

    @property
    def about(self) -> str:
        """What is measured, in full."""
        if not self.confusion:
            return "the share of the test rows that a victim calls wrong"
        source, intended = self.confusion.split(" called ", 1)
        return f"the share of the test rows of class {source} that a victim calls {intended}"


def degradation(experiment: Mapping[str, Any], classes: Sequence[str]) -> Degradation | None:
    """What the settings of a run say; None where its goal is another, or was not recorded."""
    threat = mapping(experiment.get("threat"))
    goal = mapping(threat.get("goal"))
    if goal.get("name") != "degrade":
        return None
    source = intended = None
    words = ""
    if goal.get("kind") == "specific":
        source, intended = (_number(goal.get(which, k), classes) for k, which in enumerate(("source", "intended")))
        words = " called ".join(_quoted(goal.get(which, k), classes) for k, which in enumerate(("source", "intended")))
    return Degradation(
        source=source,
        intended=intended,
        confusion=words,
        appended=threat.get("rows") == "append",
        dirty=threat.get("labels") == "dirty",
    )


def baseline(attack: str) -> str | None:
    """What a baseline is in words, whatever stands after its name in brackets; None for other attacks."""
    return BASELINES.get(attack.partition(" (")[0])


def _number(which: Any, classes: Sequence[str]) -> int | None:
    """The number of a class that is given by number or by name."""
    if isinstance(which, str) and which in classes:
        return list(classes).index(which)
    return int(which) if str(which).isdecimal() else None


def _quoted(which: Any, classes: Sequence[str]) -> str:
    number = _number(which, classes)
    return quoted(classes[number] if number is not None and number < len(classes) else str(which))
