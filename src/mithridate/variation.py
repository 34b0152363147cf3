"""A threat model with one setting changed, the place written with dots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from mithridate import config
from mithridate.errors import ConfigError, nearest
from mithridate.threat import ThreatModel


def varied(threat: ThreatModel, place: str, value: Any) -> ThreatModel:
    """The threat model with one setting changed, the place written with dots."""
    if place.split(".")[0] == "goal":
        raise ConfigError(f"{place} cannot be varied: the base rate belongs to one goal; make it a second experiment")
    return _replaced(threat, place.split("."), value)  # type: ignore[no-any-return]


def _replaced(settings: Any, path: Sequence[str], value: Any) -> Any:
    first, *rest = path
    known = {each.name for each in fields(settings)} if is_dataclass(settings) else set()
    if first not in known:
        raise ConfigError(f"the threat model has no setting '{first}' here: {nearest(first, known)}")
    inner = _replaced(getattr(settings, first), rest, value) if rest else config.setting(type(settings), first, value)
    return replace(settings, **{first: inner})
