"""Trials that are fixed instead of drawn: the set-ups of published protocols, bundled or in a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from mithridate.errors import ConfigError
from mithridate.goal import Misclassify
from mithridate.peers import Setup, read_setups
from mithridate.threat import ThreatModel


@cache
def setups(which: str) -> list[Setup]:
    """Fixed trials by bundled name or file. Raises :class:`~mithridate.errors.FormatError`."""
    bundled = Path(__file__).parent / "presets" / f"{which}.json"
    return list(read_setups(bundled if bundled.is_file() else Path(which)))


def set_up(threat: ThreatModel, found: Sequence[Setup], number: int) -> ThreatModel:
    """The threat model of one fixed trial: its target, its intended class, its rows."""
    if number >= len(found):
        raise ConfigError(f"trial {number} was asked for, but there are {len(found)} set-ups (0..{len(found) - 1})")
    setup = found[number]
    goal = Misclassify(ids=(setup.target_index,), intended=setup.base_class, target=setup.target_class)
    return replace(threat, goal=goal, base_ids=tuple(dict.fromkeys(setup.base_indices)))
