"""Settings as plain JSON-able values, and the fingerprint that decides whether two jobs are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

LATER: Mapping[str, bool] = MappingProxyType({"later": True})
"""Metadata of a field with a plain default that settings got after results had been stored under their fingerprints:
it is left out of the plain form while it has that default, so that those results are still found."""


def plain(value: Any) -> Any:
    """``value`` as JSON knows it: dataclasses become mappings led by their ``name``, tensors become hashes.

    Two settings objects are equal if and only if their plain forms are, and the form is the same in every process.
    Fields that do not count when objects are compared are left out, and so are :data:`LATER` ones at their default.
    """
    if value is None or isinstance(value, (str, int, float, bool)):  # most of what there is
        return value
    if is_dataclass(value) and not isinstance(value, type):
        name = getattr(type(value), "name", None)
        found = {"name": name} if isinstance(name, str) else {}
        for each in _counted(type(value)):
            inner = getattr(value, each.name)
            if not (each.metadata.get("later") and inner == _default(each)):
                found[each.name] = plain(inner)
        return found
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (tuple, list, set, frozenset)):
        return [plain(each) for each in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return f"sha256:{_array_hash(value)}"
    if isinstance(value, Path):
        return str(value)
    return _named(value)


def _default(each: Field[Any]) -> Any:
    """What a field is where nothing is said of it; ``MISSING`` where something must be."""
    return each.default_factory() if each.default_factory is not MISSING else each.default


@lru_cache(maxsize=1024)
def _counted(kind: type) -> tuple[Field[Any], ...]:
    """The fields of a dataclass that count when its objects are compared."""
    return tuple(each for each in fields(kind) if each.init and each.compare)


def fingerprint(*values: Any) -> str:
    """SHA-256 (first 24 hex digits) of the plain forms of ``values``, keys sorted."""
    text = json.dumps([plain(value) for value in values], sort_keys=True, allow_nan=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _array_hash(array: torch.Tensor | np.ndarray[Any, Any]) -> str:
    """SHA-256 (hex) of type, shape and bytes; of a tensor through uint8, since NumPy knows no bf16."""
    head = f"{str(array.dtype).removeprefix('torch.')}{tuple(array.shape)}".encode()
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return hashlib.sha256(head + array.tobytes()).hexdigest()


METHOD = 1
"""Raised whenever a change makes old results incomparable with new ones; part of every job's and training's key."""


def distinct(things: Sequence[Any], names: Sequence[str]) -> list[str]:
    """A name for each of several settings objects: the one given, and where that repeats, the settings that differ.

    ``["gradient-matching (augment=True)", "gradient-matching (augment=False)"]``.
    """
    return [
        name if list(names).count(name) == 1 else f"{name} ({_differences(things, names, k)})"
        for k, name in enumerate(names)
    ]


def _differences(things: Sequence[Any], names: Sequence[str], k: int) -> str:
    """What sets thing ``k`` apart from those of the same name; its number where nothing does.

    Where one setting tells all of them apart, that one alone (of several the least nested); else all that differ.
    """
    forms = {j: plain(thing) for j, thing in enumerate(things) if names[j] == names[k]}
    apart = {j: _apart(form, [other for i, other in forms.items() if i != j]) for j, form in forms.items()}
    shared = [place for place in apart[k] if all(place in each for each in apart.values())]
    places = sorted(shared, key=lambda place: place.count("."))
    telling = (place for place in places if len({short(each[place]) for each in apart.values()}) == len(apart))
    chosen = [one] if (one := next(telling, None)) else list(apart[k])
    return ", ".join(f"{place}={short(apart[k][place])}" for place in chosen) or f"number {k + 1}"


def _apart(mine: Mapping[str, Any], others: Sequence[Mapping[str, Any]], place: str = "") -> dict[str, Any]:
    """Settings in which ``mine`` differ from any of ``others``, those inside settings under dotted places.

    Of settings of another kind only the kind is told; inside settings of the same kind, what differs there.
    """
    found: dict[str, Any] = {}
    for key, value in mine.items() if others else ():
        theirs = [other.get(key) for other in others]
        alike = [each for each in theirs if isinstance(each, dict) and isinstance(value, dict) and _same(value, each)]
        if len(alike) == len(theirs):
            found |= _apart(value, alike, f"{place}{key}.")
        elif isinstance(value, dict) and "name" in value:
            found |= {f"{place}{key}": value["name"]} | _apart(value, alike, f"{place}{key}.")
        elif any(each != value for each in theirs):
            found[f"{place}{key}"] = value
    return found


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether settings are of one kind."""
    return one.get("name") == other.get("name") and one.keys() == other.keys()


def short(value: Any) -> str:
    """A plain value in a few characters."""
    if isinstance(value, dict):
        return str(value.get("name", "")) + " ".join(str(each) for key, each in value.items() if key != "name")
    return str(value)


def _named(value: Any) -> str:
    """A function or class by its place; any other object by its class, since its address means nothing."""
    kind = value if hasattr(value, "__qualname__") else type(value)
    return f"{kind.__module__}:{kind.__qualname__}"
