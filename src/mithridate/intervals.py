"""Intervals of proportions, Wilson's and the exact one, and how many independent values clustered ones are worth."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, norm, t

Array = NDArray[np.float64]
Method = Literal["wilson", "exact"]
"""``wilson``: covers as often as it says on average over rates, now more and now less (91 % at ten values and a rate of
5 %). ``exact``: Clopper and Pearson's, which of independent values covers at least as often as it says at every rate,
mostly more. Of clustered values neither promises that: their worth is an estimate (:func:`effective`)."""

_NOTHING = 1e-12
"""Sums of squares below this are rounding."""
_DRAWN = 8
"""How strongly a correlation that few clusters show is drawn towards 1: chosen by coverage at rates of 5 to 40 %."""


def wilson(mean: float, n: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a proportion ``mean`` of ``n``, which need not be whole (effective sizes are not).

    Equals ``scipy.stats.binomtest(...).proportion_ci(method="wilson")`` at whole numbers.
    """
    low, high = bounds(mean, n, confidence=confidence, method="wilson")
    return float(low), float(high)


def exact(mean: float, n: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval for a proportion ``mean`` of ``n``, which need not be whole.

    At an effective size this is Korn and Graubard's interval (1998, https://www150.statcan.gc.ca/n1/pub/12-001-x/),
    by quantiles of the beta distribution. Equals ``scipy.stats.binomtest(...).proportion_ci()`` at whole numbers.
    """
    low, high = bounds(mean, n, confidence=confidence, method="exact")
    return float(low), float(high)


def bounds(
    mean: ArrayLike, n: ArrayLike, *, confidence: float = 0.95, method: Method = "wilson"
) -> tuple[Array, Array]:
    """The interval of many proportions at once: ``mean`` in [0, 1] and ``n`` of any shapes that fit together."""
    mean, n = np.broadcast_arrays(np.asarray(mean, dtype=np.float64), np.asarray(n, dtype=np.float64))
    tail = (1 - confidence) / 2
    if method == "exact":
        hits, misses = mean * n, (1 - mean) * n
        low = beta.ppf(tail, np.maximum(hits, _NOTHING), misses + 1)
        high = beta.isf(tail, hits + 1, np.maximum(misses, _NOTHING))
    else:
        z = -float(norm.ppf(tail))
        centre = (mean + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * np.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
        low, high = np.maximum(0.0, centre - half), np.minimum(1.0, centre + half)
    return np.where(mean <= 0, 0.0, low), np.where(mean >= 1, 1.0, high)


def effective(sums: Array, squares: Array, sizes: Array, *, confidence: float = 0.95) -> Array:
    """How many independent values clustered ones are worth, from the number of clusters to that of values.

    ``sums`` and ``squares`` are those of the values of each cluster, ``(..., K)``, ``sizes`` their numbers, ``(K,)``.

    n over the design effect ``1 + (m - 1) * icc`` (Kish 1965), with the intraclass correlation from a one-way analysis
    of variance, corrected for few clusters by the squared ratio of Student's quantiles at n - 1 and K - 1 degrees of
    freedom (Korn & Graubard 1998). Where the correlation cannot be seen (every value equal, or a single cluster) it
    is taken as 1, and where few clusters show it, it is drawn towards 1: with ``w`` clusters that hold the hits, or the
    misses where fewer hold those (:func:`holders`), to ``1 - (1 - icc) * (w - 1)^2 / ((w - 1)^2 + 8)``. Otherwise the
    first hit of all, which can say nothing of how alike hits are, would count every value as independent.

    benchmarks/interval_coverage.py measures what comes of it for beta-binomial clusters: at rates of 5 and 10 % and
    correlations of 0.2 to 0.9 Wilson's 95 % intervals hold the truth 94 to 99.5 % of the time; where values of one
    cluster nearly always agree, as often as the plain ones of so many clusters (93 % at ten and a rate of 5 %). Other
    shapes can still hide: where one cluster of twenty is always hit and the others at 2 %, it was 77 % at 30 x 20.
    A bound that must hold counts clusters, as a gate's do (:mod:`mithridate.report.bounding`).
    """
    count, n = len(sizes), float(sizes.sum())
    if count in (1, n):
        return np.full(sums.shape[:-1], float(count))
    tail = (1 - confidence) / 2
    shrink = (float(t.ppf(tail, n - 1)) / float(t.ppf(tail, count - 1))) ** 2
    seen = np.maximum(0.0, np.minimum(holders(sums), holders(sizes - sums)) - 1) ** 2
    apart = (1 - np.clip(intraclass_correlation(sums, squares, sizes), 0.0, 1.0)) * seen / (seen + _DRAWN)
    design: Array = 1 + (n / count - 1) * (1 - apart)
    return np.maximum(float(count), n / design * shrink)


def holders(sums: Array) -> Array:
    """How many clusters hold what there is, ``(sum of sums)^2 / sum of sums^2``: from 1, where one holds all, to K.

    0 where there is nothing. ``sums`` are at least 0, ``(..., K)``.
    """
    squares = (sums**2).sum(-1)
    return np.asarray(np.where(squares > 0, sums.sum(-1) ** 2 / np.where(squares > 0, squares, 1.0), 0.0))


def intraclass_correlation(sums: Array, squares: Array, sizes: Array) -> Array:
    """One-way ANOVA estimate of how alike the values of one cluster are; 1 where nothing varies.

    Shapes as for :func:`effective`; there must be two clusters or more, and one of two values or more.
    """
    count, n = len(sizes), float(sizes.sum())
    means = sums / sizes
    mean = (sums.sum(-1) / n)[..., None]
    between = (sizes * (means - mean) ** 2).sum(-1)
    within = np.maximum(0.0, (squares - sums * means).sum(-1))
    alike = between + within < _NOTHING
    size = (n - float((sizes**2).sum()) / n) / (count - 1)
    between, within = between / (count - 1), within / (n - count)
    whole = np.where(alike, 1.0, between + (size - 1) * within)
    return np.asarray(np.where(alike, 1.0, (between - within) / whole))


def sizes_to_bound(limit: float, *, confidence: float) -> int:
    """How many independent values without a single hit keep the exact one-sided upper bound at most ``limit``.

    From ``(1 - limit) ** n <= 1 - confidence``: 59 for 5 % at 95 %.
    """
    return math.ceil(math.log(1 - confidence) / math.log(1 - limit) - _NOTHING)
