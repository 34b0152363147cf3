"""Rates with honest intervals: the unit of replication is the trial, however many victims each trial has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from mithridate.errors import ConfigError
from mithridate.intervals import Array, Method, bounds, effective, exact, wilson

__all__ = [
    "Difference",
    "Estimate",
    "differences",
    "exact",
    "mean_interval",
    "paired",
    "rate",
    "rates",
    "sign_flip",
    "wilson",
    "worth_of",
]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean with its 95 % interval, and what it was computed over."""

    mean: float
    low: float
    high: float
    trials: int
    """Independent trials (draws of target and poison rows)."""
    victims: int
    """Trained victims in all."""

    @property
    def hits(self) -> float:
        """How many victims were hit, the mean times their number (fractional where a victim has several targets)."""
        return self.mean * self.victims


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A rate less another one over the same trials, with its 95 % interval."""

    mean: float
    """In [-1, 1]."""
    low: float
    high: float
    chance: float
    """Probability of a mean at least this far on this side of 0 if the two were interchangeable within every trial;
    adjusted for all comparisons made beside it, where ``family`` is more than 1."""
    trials: int
    family: int = 1
    """Over how many comparisons ``chance`` is adjusted (Holm 1979). The interval is never adjusted."""

    @property
    def below(self) -> bool:
        """Whether the first rate is clearly lower: the whole interval is below 0, and chance at most 5 %."""
        return self.high < 0 and self.chance <= 0.05

    @property
    def above(self) -> bool:
        """Whether the first rate is clearly higher."""
        return self.low > 0 and self.chance <= 0.05


def rate(by_trial: Sequence[Sequence[float]], *, confidence: float = 0.95, method: Method = "wilson") -> Estimate:
    """The mean of values in [0, 1] and its interval, clustered by trial.

    ``by_trial`` holds, for each trial, the success of each of its victims. Victims of one trial share target and
    poison and are no independent evidence, so the interval is Wilson's, or on request the exact one, at the
    *effective* number of victims (:func:`mithridate.intervals.effective`), which lies between that of trials and that
    of victims. benchmarks/interval_coverage.py measures how often it holds the truth.

    Raises :class:`ConfigError` where there are no values, or values outside [0, 1].
    """
    groups = [list(values) for values in by_trial if len(values)]
    values = [value for group in groups for value in group]
    if not values:
        raise ConfigError("a rate needs at least one value")
    if not all(0 <= value <= 1 for value in values):  # so written, it refuses NaN too
        raise ConfigError(f"a rate's values must lie in [0, 1], but they range from {min(values)} to {max(values)}")
    mean = sum(values) / len(values)
    worth = worth_of(groups, confidence=confidence)
    low, high = (wilson if method == "wilson" else exact)(mean, worth, confidence=confidence)
    return Estimate(mean=mean, low=low, high=high, trials=len(groups), victims=len(values))


def worth_of(by_trial: Sequence[Sequence[float]], *, confidence: float = 0.95) -> float:
    """How many independent victims the clustered ones are worth: from the number of trials to that of victims."""
    groups = [values for values in by_trial if len(values)]
    sizes = np.array([len(group) for group in groups])
    values, starts = np.array([float(value) for each in groups for value in each]), np.cumsum(sizes) - sizes
    sums, squares = (np.add.reduceat(each, starts) for each in (values, values**2))
    return float(effective(sums, squares, sizes.astype(np.float64), confidence=confidence))


def rates(values: Array, *, confidence: float = 0.95, method: Method = "wilson") -> tuple[Array, Array, Array]:
    """Means and bounds of many samples ``(..., K trials, m victims)`` in [0, 1] at once, as :func:`rate` gives them."""
    sizes = np.full(values.shape[-2], float(values.shape[-1]))
    mean = values.mean((-2, -1))
    worth = effective(values.sum(-1), (values**2).sum(-1), sizes, confidence=confidence)
    return mean, *bounds(mean, worth, confidence=confidence, method=method)


def paired(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> Difference:
    """The rate of ``first`` less that of ``second``, both over the same trials in the same order, values in [0, 1].

    The interval is put together from the intervals of the two rates (Newcombe 1998, method 10; for any estimates
    Zou & Donner 2008), with the correlation of their trial means, lowered by 1/sqrt(K) because K trials show it no
    better. Unlike a bootstrap of the trials or Student's t, it does not shrink to a point where all trials agree.

    ``chance`` is exact whatever the distribution: the share of the 2^K ways to swap the two rates within trials that
    give a difference at least as far on the same side (Fisher's sign-flip test, one-sided). Below five trials it
    never gets down to 5 %. Differences of trials are rounded to 1/2520: exact for one to ten victims a trial.

    Raises :class:`ConfigError` where the trials do not match, or there are none.
    """
    if len(first) != len(second) or not first or not all(map(len, (*first, *second))):
        raise ConfigError(f"a paired difference needs the same trials twice, but got {len(first)} and {len(second)}")
    one, two = rate(first), rate(second)
    means = [[sum(values) / len(values) for values in side] for side in (first, second)]
    own, other = ((np.array(each.mean), np.array(each.low), np.array(each.high)) for each in (one, two))
    low, high = _joined(own, other, _correlation(np.array(means[0]), np.array(means[1])))
    return Difference(
        mean=one.mean - two.mean,
        low=float(low),
        high=float(high),
        chance=sign_flip([x - y for x, y in zip(*means, strict=True)]),
        trials=len(first),
    )


def differences(first: Array, second: Array) -> tuple[Array, Array, Array]:
    """Means and bounds of many paired differences at once, as :func:`paired` gives them: two ``(..., K, m)``."""
    one, two = rates(first), rates(second)
    low, high = _joined(one, two, _correlation(first.mean(-1), second.mean(-1)))
    return one[0] - two[0], low, high


def sign_flip(differences: Sequence[float]) -> float:
    """Share of the 2^K signs of ``differences`` whose sum lies as far from 0 as theirs, on the same side, or farther.

    The sums are counted value by value instead of sign by sign; differences are rounded to 1/2520. Thousands of trials
    take milliseconds, because their differences are few fractions.
    """
    steps = [round(2520 * value) for value in differences]
    unit = math.gcd(*steps) or 1
    total = sum(abs(step) for step in steps) // unit
    least = (abs(sum(steps)) // unit + total) // 2  # of all steps with a plus, to reach as far
    weights, end = np.zeros(total + 1), 1  # chance of every sum of steps with a plus
    weights[0] = 1.0
    for step in sorted(abs(step) // unit for step in steps if step):
        weights[:end] /= 2
        weights[step : end + step] += weights[:end].copy()
        end += step
    return float(weights[least:].sum())


def mean_interval(values: Sequence[float], *, confidence: float = 0.95) -> Estimate:
    """The mean of real values, one for each independent training, with Student's t interval.

    With a single value the interval is the value itself: nothing is known of its spread.
    """
    if not values:
        raise ConfigError("a mean needs at least one value")
    n, mean = len(values), sum(values) / len(values)
    if n == 1:
        return Estimate(mean=mean, low=mean, high=mean, trials=1, victims=1)
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)
    half = float(t.ppf(0.5 + confidence / 2, n - 1)) * spread
    return Estimate(mean=mean, low=mean - half, high=mean + half, trials=n, victims=n)


def _joined(
    one: tuple[Array, Array, Array], two: tuple[Array, Array, Array], correlation: Array
) -> tuple[Array, Array]:
    """Bounds of the difference of two correlated estimates, each given as its mean, low and high."""

    def distance(a: Array, b: Array) -> Array:
        return np.sqrt(np.maximum(0.0, a * a + b * b - 2 * correlation * a * b))

    (mean, low, high), (other, below, above) = one, two
    gap = mean - other
    down, up = distance(mean - low, above - other), distance(high - mean, other - below)
    return np.maximum(-1.0, gap - down), np.minimum(1.0, gap + up)


def _correlation(first: Array, second: Array) -> Array:
    """What is sure of the correlation of two ``(..., K)``: Pearson's r less its error 1/sqrt(K), at least 0."""
    x, y = (each - each.mean(-1, keepdims=True) for each in (first, second))
    scale = np.sqrt((x * x).sum(-1) * (y * y).sum(-1))
    seen = scale > 1e-12
    r = (x * y).sum(-1) / np.where(seen, scale, 1.0)
    return np.where(seen, np.maximum(0.0, r - 1 / math.sqrt(first.shape[-1])), 0.0)
