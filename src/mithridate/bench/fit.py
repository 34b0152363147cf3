"""How cost grows with a size: the exponent of a power law, with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """cost = factor * size ** exponent."""

    exponent: float
    low: float
    high: float
    """Student's 95 % interval of the exponent: from how far the points lie off the line."""
    factor: float


def fitted(sizes: Sequence[float], costs: Sequence[float]) -> Fitted:
    """The least-squares line through log size and log cost; at least three points, all above zero."""
    from scipy.stats import linregress, t

    assert len(sizes) == len(costs) >= 3, "a power law with an interval needs three points"
    line = linregress([math.log(each) for each in sizes], [math.log(each) for each in costs])
    half = float(t.ppf(0.975, len(sizes) - 2)) * float(line.stderr)
    slope = float(line.slope)
    return Fitted(exponent=slope, low=slope - half, high=slope + half, factor=math.exp(float(line.intercept)))
