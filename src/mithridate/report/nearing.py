"""How near a poison came to its target in each surrogate while it was crafted: one figure for each attack."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from mithridate.report.feature_drawings import Band, bands
from mithridate.report.figures import Figure
from mithridate.report.load import Craft
from mithridate.report.words import length, plural

_NAME = re.compile(r"distance to the target, network (\d+)")
_MOST = 6
"""Networks in one figure."""


def network(name: str) -> int | None:
    """The number of the network (from 1) whose distance a curve follows; None for other curves."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


def nearing(name: str, crafts: Sequence[Craft], where: str) -> Figure | None:
    """The distance to the target in each network, over all trials of an attack; None where none was followed."""
    followed: dict[int, list[tuple[float, ...]]] = {}
    for craft in crafts:
        for curve, values in craft.trace.items():
            number = network(curve)
            if number is not None:
                followed.setdefault(number, []).append(values)
    if not followed:
        return None
    shown = sorted(followed)[:_MOST]
    found = [band(f"network {number}", followed[number]) for number in shown]
    trials = max(map(len, followed.values()))
    left = f"; the first {len(shown)} of {len(followed)} networks" if len(followed) > len(shown) else ""
    how = f"median of {plural(trials, 'trial')}, the band between the quartiles" if trials > 1 else "one trial"
    spoken = "; ".join(f"{each.label} from {length(each.median[0])} to {length(each.median[-1])}" for each in found)
    return bands(
        name,
        found,
        title="Distance to the target",
        across="step",
        label=f"Line chart: distance to the target over the steps of crafting, {how}: {spoken}",
        caption=". ".join(each for each in (where, f"{how}{left}".capitalize()) if each),
    )


def band(label: str, curves: Sequence[Sequence[float]]) -> Band:
    """Median and quartiles at every step. A crafting that stopped early stays where it was; gaps are left out."""
    steps = max(map(len, curves))
    values = np.asarray([[*curve, *[curve[-1]] * (steps - len(curve))] for curve in curves])  # (trials, steps)
    known = [column[np.isfinite(column)] for column in values.T]
    low, median, high = np.asarray(
        [np.quantile(column, (0.25, 0.5, 0.75)) if len(column) else [np.nan] * 3 for column in known]
    ).T
    return Band(label=label, median=median.tolist(), low=low.tolist(), high=high.tolist())
