"""Published protocols: what of an experiment is fixed, under a version, and the numbers published under it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mithridate.errors import ConfigError

FIXED = ("data", "threat", "vary", "victims", "setups", "training_rows", "resample", "targets", "trials", "first_trial")
"""What makes two results comparable under a protocol. Attacks, surrogates, defenses, seeds and controls are free."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A number that others published under a protocol, to be printed beside ours."""

    attack: str
    """The kind of attack, by name."""
    victim: int
    """Number of the victim in the experiment, from 0."""
    rate: float
    """Success, in [0, 1]."""
    trials: int
    """Trials behind it."""
    source: str
    """Where it was read, and its version: tables change."""

    def __post_init__(self) -> None:
        """Refuse a rate that was meant in percent."""
        if not 0 <= self.rate <= 1:
            raise ConfigError(f"rate must lie in [0, 1] (write 85 % or 0.85), but it is {self.rate:g}")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The name and version of a published protocol that an experiment follows."""

    name: str
    """The preset that holds it."""
    version: int
    """Raised whenever a fixed setting of the preset changes: results of two versions do not compare."""


def changes(settings: Mapping[str, Any], fixed: Mapping[str, Any]) -> list[str]:
    """Places in which an experiment's plain settings leave those of its protocol, ``place: protocol -> here``."""
    return [each for name in FIXED for each in _apart(name, fixed.get(name), settings.get(name))]


def _apart(place: str, theirs: Any, ours: Any) -> list[str]:
    if theirs == ours:
        return []
    if isinstance(theirs, dict) and isinstance(ours, dict):
        keys = list(dict.fromkeys([*theirs, *ours]))
        return [each for key in keys for each in _apart(f"{place}.{key}", theirs.get(key), ours.get(key))]
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        pairs = enumerate(zip(theirs, ours, strict=True))
        return [each for k, (one, two) in pairs for each in _apart(f"{place}[{k}]", one, two)]
    return [f"{place}: {_short(theirs)} -> {_short(ours)}"]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
