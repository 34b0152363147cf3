"""What a poison set holds, in words and numbers for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from mithridate.dataset import Dataset, Space
from mithridate.goal import Aims
from mithridate.poisonset import PoisonSet


def summary(poison_set: PoisonSet) -> dict[str, Any]:
    """What a person wants to know first, as JSON-able values.

    ``largest_change_255ths`` is the largest change of one value in 255ths of the space's range (None without clean
    rows), ``attack`` and ``seed`` what the manifest's details say of them. Of a table there are instead ``columns``
    (the names), ``changed_columns`` (in how many rows, most first) and ``largest_change`` (in parts of a column's
    range); of appended rows there are the ``origins`` that they name.
    """
    rows, details = poison_set.poison.rows, poison_set.manifest.get("details", {})
    attack, base = details.get("attack"), poison_set.base
    return {
        "rows": len(rows),
        "classes": _by_class(rows),
        **({} if poison_set.poison.origins is None else {"origins": poison_set.poison.origins.tolist()}),
        "relabelled": None if base is None else int((rows.labels != base.labels).sum()),
        **_changes(rows, base),
        "goal": _in_words(poison_set.aims, rows.space),
        "attack": attack.get("name") if isinstance(attack, Mapping) else attack,
        "seed": details.get("seed"),
    }


def _by_class(rows: Dataset) -> dict[str, int]:
    found, counts = torch.unique(rows.labels.cpu(), return_counts=True)
    return {rows.space.name(label): count for label, count in zip(found.tolist(), counts.tolist(), strict=True)}


def _changes(rows: Dataset, base: Dataset | None) -> dict[str, Any]:
    """How far the poison is from its clean rows, and in which columns of a table."""
    space = rows.space
    if not space.columns:
        return {"largest_change_255ths": None if base is None else _largest_change(rows, base)}
    names = [column.group or column.name for column in space.columns]
    found: dict[str, Any] = {"columns": list(dict.fromkeys(names))}
    if base is None:
        return found | {"changed_columns": None, "largest_change": None}
    moved = (rows.all_inputs() - base.all_inputs()).abs() / space.unit(rows.inputs)
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    counts = {name: int((moved[:, own] > 0).any(1).sum()) for name, own in places.items()}
    most = sorted(counts, key=lambda name: -counts[name])
    largest = round(float(moved.max()), 4) if len(rows) else 0.0
    return found | {"changed_columns": {name: counts[name] for name in most if counts[name]}, "largest_change": largest}


def _largest_change(rows: Dataset, base: Dataset) -> float:
    """The largest change of one value, in 255ths of the range."""
    if not len(rows):
        return 0.0
    low, high = rows.space.bounds
    return round(float((rows.all_inputs() - base.all_inputs()).abs().max()) / (high - low) * 255, 3)


def _in_words(aims: Aims, space: Space) -> str:
    """``1 input of class 'cat' (id 42) is to be called 'dog'``."""
    if not len(aims):
        return "nothing is judged"
    one = len(aims) == 1
    classes = torch.unique(aims.labels).tolist()
    what = f"class '{space.name(classes[0])}'" if len(classes) == 1 else f"{len(classes)} classes"
    which = f" (id {int(aims.ids[0])})" if one and aims.ids is not None else ""
    mark = f" with the trigger '{aims.trigger.name}'" if aims.trigger else ""
    count, verb = ("1 input", "is") if one else (f"{len(aims)} inputs", "are")
    return f"{count} of {what}{which}{mark} {verb} to be called {_wanted(aims, space)}"


def _wanted(aims: Aims, space: Space) -> str:
    if aims.wanted is None:
        return "anything else"
    wants = torch.unique(aims.wanted).tolist()
    return f"'{space.name(wants[0])}'" if len(wants) == 1 else f"one of {len(wants)} classes, chosen for each"
