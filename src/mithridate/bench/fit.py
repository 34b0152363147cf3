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
    import numpy as np
    from scipy.stats import t

    assert len(sizes) == len(costs) >= 3, "a power law with an interval needs three points"
    x, y = np.log(sizes), np.log(costs)
    spread = float(np.square(x - x.mean()).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread
    off = y - y.mean() - slope * (x - x.mean())
    free = len(sizes) - 2
    half = float(t.ppf(0.975, free)) * math.sqrt(float(np.square(off).sum()) / free / spread)
    factor = math.exp(float(y.mean() - slope * x.mean()))
    return Fitted(exponent=slope, low=slope - half, high=slope + half, factor=factor)
