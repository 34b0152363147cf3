"""What was measured beside what is aimed at, and the file of results, merged piece by piece."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpu_pieces.keeping import Found, Kept, Piece, Row
from mithridate.errors import MithridateError
from mithridate.stats import mean_interval


def row(
    case: str,
    values: Sequence[float],
    unit: str,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    spread: Sequence[float] = (),
    note: str = "",
) -> Row:
    """A line of the table: the median of ``values`` and their range, the goal, and whether it is met.

    ``spread`` replaces the range where a value is itself a median, or an interval is known.
    """
    goal = f"at most {at_most:g}" if at_most is not None else f"at least {at_least:g}" if at_least is not None else ""
    if not values:
        return {"case": case, "value": None, "unit": unit, "goal": goal, "met": "not measured", "n": 0, "note": note}
    value = statistics.median(values)
    met = (at_most is None or value <= at_most) and (at_least is None or value >= at_least)
    low, high = (min(spread), max(spread)) if spread else (min(values), max(values))
    return {
        "case": case,
        "value": rounded(value),
        "unit": unit,
        "range": f"{rounded(low)} to {rounded(high)}",
        "n": len(values),
        "goal": goal,
        "met": ("met" if met else "not met") if goal else "",
        "note": note,
    }


def mean_row(case: str, values: Sequence[float], unit: str, *, at_least: float | None = None, note: str = "") -> Row:
    """A line with the mean of independent values and its 95 % interval (Student's t)."""
    if not values:
        return row(case, (), unit, at_least=at_least, note=note)
    found = mean_interval(list(values))
    told = row(case, [found.mean], unit, at_least=at_least, spread=(found.low, found.high), note=note)
    interval = "mean with 95 % interval" if len(values) > 1 else "a single value: no interval"
    return {**told, "n": len(values), "note": "; ".join(filter(None, (interval, note)))}


def measured(units: Mapping[str, Found], head: str = "") -> dict[str, Found]:
    """The units that measured something, of those whose names begin so."""
    return {
        name: found
        for name, found in units.items()
        if name.startswith(head) and "absent" not in found and "failed" not in found
    }


def troubles(units: Mapping[str, Found]) -> list[Row]:
    """A line for each unit that measured nothing, with the reason."""
    return [
        {"case": name, "value": None, "met": "not measured", "n": 0, "note": found.get("absent") or found.get("failed")}
        for name, found in units.items()
        if "absent" in found or "failed" in found
    ]


def rounded(value: float) -> float:
    """Four digits."""
    return float(f"{value:.4g}")


def judged(environment: Mapping[str, Any]) -> bool:
    """Whether goals are judged: on a GPU, at full size."""
    return not environment["tiny"] and "cuda" in environment


def told(piece: Piece, kept: Kept) -> dict[str, Any]:
    """A piece as the file of results holds it."""
    rows = [*piece.rows({**kept.partial, **kept.units}), *troubles(kept.units)]
    for each in rows:
        if each.get("met") in ("met", "not met") and not judged(kept.environment):
            each["met"] = "not judged: no GPU, or tiny"
    return {
        "about": piece.about,
        "environment": kept.environment,
        "complete": not kept.left,
        "left": kept.left,
        "seconds": round(kept.seconds, 1),
        "calls": kept.calls,
        "rows": rows,
        "units": kept.units,
        "partial": kept.partial,
    }


def merge(pieces: Mapping[str, Mapping[str, Any]], out: Path, *, command: str, order: Iterable[str]) -> dict[str, Any]:
    """Write pieces into a file of results, beside those of other pieces that are there already.

    Raises :class:`MithridateError` where these were measured on another machine or at another size.
    """
    before = json.loads(out.read_text(encoding="utf-8"))["pieces"] if out.is_file() else {}
    found = {**before, **pieces}
    places = {name: _place(each["environment"]) for name, each in found.items()}
    if len(set(places.values())) > 1:
        listed = "; ".join(f"{name}: {place}" for name, place in places.items())
        raise MithridateError(f"'{out}' holds pieces measured elsewhere ({listed}); name another --out")
    found = {name: found[name] for name in order if name in found}
    first = next(iter(found.values()), None)
    result = {
        "name": "gpu",
        "about": "What the fast paths cost and give on a GPU, each beside what is aimed at. One machine, nothing else "
        "on it. Range: least to most over n, where no interval is named.",
        "command": command,
        "environment": first["environment"] if first else {},
        "core_seconds": round(sum(each["seconds"] for each in found.values())),
        "measured": [{"piece": name, **each} for name, piece in found.items() for each in piece["rows"]],
        "pieces": found,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(out.name + ".partial")
    aside.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    aside.replace(out)
    return result


def _place(environment: Mapping[str, Any]) -> tuple[Any, ...]:
    """What numbers that stand in one table must share."""
    return tuple(environment.get(name) for name in ("device", "torch", "tiny"))
