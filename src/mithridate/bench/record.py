"""The JSON file of a benchmark: written after every case, and read again so that nothing is measured twice."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mithridate.atomic import write_atomically
from mithridate.bench.case import Case, Growth
from mithridate.bench.code import version
from mithridate.bench.machine import Machine
from mithridate.bench.result import Ceilings, Found, Unmeasured, as_json, from_json
from mithridate.errors import ConfigError

_ABOUT = "Each case beside its plain form, in turn in one process; ratios are medians over rounds, with their range."


def checked(path: Path) -> None:
    """Raise :class:`ConfigError` where a file cannot be written, before anything is measured."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ConfigError(f"there is no folder '{path.parent}' to write {path.name} into; make it first")
    if path.is_dir():
        raise ConfigError(f"'{path}' is a folder; name a file to write the numbers into")
    if not os.access(path if path.exists() else folder, os.W_OK) or not os.access(folder, os.W_OK):
        raise ConfigError(f"'{path}' cannot be written; choose a place where you may write")


def read(path: Path) -> dict[str, Any]:
    """What a file holds; nothing where there is none. Raises :class:`ConfigError` for a file of another kind."""
    if not path.exists():
        return {}
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["name"] == "bench":
            return dict(told)
    except (ValueError, KeyError, TypeError):
        pass
    raise ConfigError(f"'{path}' is no file of  mithridate bench ; name another, or move it away")


def kept(
    told: Mapping[str, Any], machine: Machine, known: Iterable[Case | Growth], *, quick: bool, rounds: int
) -> dict[str, Found]:
    """What a file knows of these cases, as well measured as now asked for, on the same machine with the same code."""
    if told.get("environment") != machine or told.get("quick") != quick:
        return {}
    rows = {row.get("name"): row for row in told.get("measured", ())}
    found = {}
    for case in known:
        row = rows.get(case.name, {})
        if row.get("code") == coded(case) and row.get("rounds", rounds) >= rounds:
            try:
                found[case.name] = from_json(row)
            except (KeyError, ValueError):
                continue  # a number was not finite, or the file is of another release: measured again
    return found


def coded(case: Case | Growth) -> str:
    """The version of the code of a case: of all it can reach."""
    return version(getattr(getattr(case.prepare, "func", case.prepare), "__module__", ""))


@dataclass(frozen=True, kw_only=True)
class Heading:
    """What stands above the measurements in a file."""

    command: str
    environment: Machine
    ceilings: Ceilings
    foreign: float | None
    """The share of the processor that others used while the ceilings were measured."""
    quick: bool


def write(path: Path, found: Iterable[Found], heading: Heading, *, seconds: float) -> None:
    """Write all that was found so far, at once or not at all."""
    every = list(found)
    told = {
        "name": "bench",
        "about": _ABOUT,
        "command": heading.command,
        "environment": dict(heading.environment),
        "quick": heading.quick,
        "ceilings": {name: round(value, 1) for name, value in heading.ceilings.items()},
        "ceilings_foreign": heading.foreign,
        "core_seconds": round(seconds),
        "measured": [as_json(each, heading.ceilings) for each in every if not isinstance(each, Unmeasured)],
        "unmeasured": {each.name: each.why for each in every if isinstance(each, Unmeasured)},
    }
    write_atomically(path, json.dumps(told, indent=1) + "\n")
