"""What a piece is, how it is carried out unit by unit, and how what is done is kept, so that no unit is done twice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gpu_pieces.place import NotThereError, Place, TimeUp
from mithridate import runtime
from mithridate.errors import AbsentError, MithridateError

Found = Mapping[str, Any]
"""What a unit measured, as JSON holds it; ``absent`` or ``failed`` with a sentence where it did not."""
Row = dict[str, Any]
"""One line of the table of results."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A part of a piece that is measured in one go, or goes on by itself where it was stopped."""

    name: str
    run: Callable[[], Found]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One thing to be measured."""

    name: str
    about: str
    units: Callable[[Place], Sequence[Unit]]
    rows: Callable[[Mapping[str, Found]], list[Row]]
    """Lines of the table, from the units measured so far."""


@dataclass(kw_only=True, eq=False)
class Kept:
    """How far a piece is, in a JSON file of the work folder."""

    path: Path
    environment: dict[str, Any]
    seconds: float = 0.0
    calls: int = 0
    units: dict[str, Found] = field(default_factory=dict)
    partial: dict[str, Found] = field(default_factory=dict)
    """What is known of units that are not finished."""
    left: list[str] = field(default_factory=list)

    @staticmethod
    def of(piece: Piece, place: Place) -> Kept:
        """What was kept. Raises :class:`MithridateError` where it was measured elsewhere or at another size."""
        kept = Kept(path=place.folder / f"{piece.name}.json", environment=environment(place))
        if not kept.path.is_file():
            return kept
        said = json.loads(kept.path.read_text(encoding="utf-8"))
        if said["environment"] != kept.environment:
            differ = [name for name, value in kept.environment.items() if said["environment"].get(name) != value]
            raise MithridateError(
                f"'{kept.path}' was measured elsewhere or otherwise ({', '.join(differ)} differ); name another --work"
            )
        return Kept(path=kept.path, **said)

    def write(self) -> None:
        """Keep it, complete or as before."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.path.with_suffix(".partial")
        told = {name: value for name, value in vars(self).items() if name != "path"}
        aside.write_text(json.dumps(told, indent=1), encoding="utf-8")
        aside.replace(self.path)

    def finished(self, unit: str) -> bool:
        """Whether it need not be run; what was not there is looked for again."""
        return unit in self.units and "absent" not in self.units[unit]

    def again(self) -> None:
        """Forget the units that failed."""
        self.units = {name: found for name, found in self.units.items() if "failed" not in found}


def environment(place: Place) -> dict[str, Any]:
    """What results hang on; two that differ in it do not go together."""
    found = {**runtime.describe(place.device), "tiny": place.tiny}
    if place.cuda:
        found["cuda"] = torch.version.cuda or "unknown"
    return found


def carried_out(piece: Piece, place: Place, *, say: Callable[[str], None], after: Callable[[Kept], None]) -> Kept:
    """Do what is left of a piece until the time is up; ``after`` is called whenever something was added."""
    kept, started = Kept.of(piece, place), time.monotonic()
    before, kept.calls = kept.seconds, kept.calls + 1
    units = piece.units(place)
    try:
        for unit in units:
            if kept.finished(unit.name):
                continue
            place.check()
            found = _attempted(unit, place)
            kept.units[unit.name] = found
            kept.partial.pop(unit.name, None)
            say(f"{piece.name}, {unit.name}: {_short(found)}")
            kept.seconds = before + time.monotonic() - started
            kept.write()
            after(kept)
    except TimeUp as up:
        if up.found is not None:
            kept.partial[unit.name] = up.found
        say(f"{piece.name}: the time is up; call again to go on")
    kept.left = [unit.name for unit in units if not kept.finished(unit.name)]
    kept.seconds = before + time.monotonic() - started
    kept.write()
    after(kept)
    return kept


def _attempted(unit: Unit, place: Place) -> Found:
    """What a unit measured; a sentence where it could not. Absent data end the call."""
    try:
        return unit.run()
    except NotThereError as error:
        return {"absent": str(error)}
    except AbsentError:
        raise
    except (MithridateError, RuntimeError, AssertionError) as error:
        if place.cuda:
            torch.cuda.empty_cache()
        return {"failed": " ".join(f"{type(error).__name__}: {error}".split())[:500]}


def _short(found: Found) -> str:
    """A line for people."""
    plain = {name: value for name, value in found.items() if isinstance(value, (str, int, float))}
    return ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in plain.items())[:300]
