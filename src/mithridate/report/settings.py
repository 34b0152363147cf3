"""The experiment's nested settings as flat tables: every value under the place it is written at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_PIXEL = {"radius", "eps", "epsilon", "step"}
"""Settings that are given in 255ths by custom."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """The settings under one top-level key, or all top-level ones that hold a single value."""

    name: str
    rows: tuple[tuple[str, str], ...]


def groups(experiment: Mapping[str, Any]) -> list[Group]:
    """Every setting of an experiment, in its order, single values first."""
    single = {key: value for key, value in experiment.items() if not isinstance(value, dict | list) or not value}
    found = [Group(name="run", rows=tuple(_flat(single, "")))] if single else []
    nested = [(key, value) for key, value in experiment.items() if key not in single]
    return found + [Group(name=key, rows=tuple(_flat(value, key))) for key, value in nested]


def differing(found: Sequence[Any]) -> list[str]:
    """For each of several settings, those that not all have alike: ``steps=80, augment=yes``; empty where all are."""
    flat = [dict(_flat(each[0] if isinstance(each, list) and len(each) == 1 else each, "")) for each in found]
    places = dict.fromkeys(place for each in flat for place in each)
    apart = [place for place in places if len({each.get(place) for each in flat}) > 1]
    return [", ".join(f"{place}={each.get(place, 'not set')}" for place in apart) for each in flat]


def _flat(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Leaves below ``value`` with their places (``attacks[0].steps``)."""
    if isinstance(value, Mapping) and value:
        for key, each in value.items():
            yield from _flat(each, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list) and any(isinstance(each, dict | list) for each in value):
        for index, each in enumerate(value):
            yield from _flat(each, f"{place}[{index}]")
    elif isinstance(value, list):
        yield place or "values", ", ".join(_text(each, place) for each in value) or "none"
    else:
        yield place or "value", _text(value, place)


def _text(value: Any, place: str) -> str:
    if value is None or value == {}:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        levels = value * 255
        whole = abs(levels - round(levels)) < 1e-6 and levels > 0.5 and place.rsplit(".", 1)[-1] in _PIXEL
        return f"{value:.6g} ({round(levels)}/255)" if whole and value < 1 else f"{value:.6g}"
    return str(value)
