"""The order of an experiment's parts, which the rows of a run do not tell: they lie as their jobs ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mithridate.report.values import items, mapping, number

Part = Literal["scenario", "attack", "victim", "defense"]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What rows call the parts of an experiment, in its order. Nothing is known of runs of older releases."""

    names: Mapping[str, Sequence[str]]

    def ordered(self, part: Part, found: Iterable[str]) -> list[str]:
        """Names, each once: those of the experiment in its order, then others as they were first seen."""
        places = {name: place for place, name in enumerate(self.names.get(part, ()))}
        return sorted(dict.fromkeys(found), key=lambda name: places.get(name, len(places)))

    def sorted(self, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Rows in the order of one job after the other: clean victims, then scenario by scenario, trial by trial."""
        if not self.names:
            return list(rows)
        return sorted(rows, key=self._place)

    def _place(self, row: Mapping[str, Any]) -> tuple[float, ...]:
        scenario, attack, victim, defense = (
            self._number(part, row) for part in ("scenario", "attack", "victim", "defense")
        )
        trial, run = (number(row.get(name)) or 0.0 for name in ("trial", "run"))
        return (scenario, trial, attack, victim, defense, run)

    def _number(self, part: str, row: Mapping[str, Any]) -> int:
        """The place of a row's part; -1 where it has none, as clean victims have no attack."""
        name, names = row.get(part), self.names.get(part, ())
        if name is None:
            return -1
        return list(names).index(name) if name in names else len(names)


def grid(value: Any) -> Grid:
    """The grid out of what a run says of itself."""
    return Grid(names={part: tuple(str(name) for name in items(names)) for part, names in mapping(value).items()})
