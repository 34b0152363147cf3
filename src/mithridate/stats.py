"""Rates with honest intervals: the unit of replication is the trial, however many victims each trial has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, t

from mithridate.errors import ConfigError


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
    """Probability of a mean at least this far on this side of 0 if the two were interchangeable within every trial."""
    trials: int

    @property
    def below(self) -> bool:
        """Whether the first rate is clearly lower: the whole interval is below 0, and chance at most 5 %."""
        return self.high < 0 and self.chance <= 0.05

    @property
    def above(self) -> bool:
        """Whether the first rate is clearly higher."""
        return self.low > 0 and self.chance <= 0.05


def rate(by_trial: Sequence[Sequence[float]], *, confidence: float = 0.95) -> Estimate:
    """The mean of values in [0, 1] and its interval, clustered by trial.

    ``by_trial`` holds, for each trial, the success of each of its victims. Victims of one trial share target and
    poison and are no independent evidence, so the interval is Wilson's at the *effective* number of victims: n over
    the design effect ``1 + (m - 1) * icc`` (Kish 1965), with the intraclass correlation from a one-way analysis of
    variance, corrected for few trials by the squared ratio of Student's quantiles at n - 1 and K - 1 degrees of
    freedom (Korn & Graubard 1998). Where the correlation cannot be seen (every value equal, or a single trial) it is
    taken as 1, so the number of trials alone counts. The effective number lies between that of trials and of victims.

    Raises :class:`ConfigError` where there are no values, or values outside [0, 1].
    """
    groups = [list(values) for values in by_trial if len(values)]
    values = [value for group in groups for value in group]
    if not values:
        raise ConfigError("a rate needs at least one value")
    if not all(0 <= value <= 1 for value in values):  # so written, it refuses NaN too
        raise ConfigError(f"a rate's values must lie in [0, 1], but they range from {min(values)} to {max(values)}")
    mean = sum(values) / len(values)
    effective = _effective(groups, confidence)
    low, high = wilson(mean, effective, confidence=confidence)
    return Estimate(mean=mean, low=low, high=high, trials=len(groups), victims=len(values))


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
    mean, shared = one.mean - two.mean, _correlation(*means)
    return Difference(
        mean=mean,
        low=max(-1.0, mean - _joined(one.mean - one.low, two.high - two.mean, shared)),
        high=min(1.0, mean + _joined(one.high - one.mean, two.mean - two.low, shared)),
        chance=sign_flip([x - y for x, y in zip(*means, strict=True)]),
        trials=len(first),
    )


def sign_flip(differences: Sequence[float]) -> float:
    """Share of the 2^K signs of ``differences`` whose sum lies as far from 0 as theirs, on the same side, or farther.

    The sums are counted value by value instead of sign by sign; differences are rounded to 1/2520.
    """
    steps = [round(2520 * value) for value in differences]
    sums, weights = np.zeros(1, dtype=np.int64), np.ones(1)
    for step in steps:
        sums, places = np.unique(np.concatenate([sums + step, sums - step]), return_inverse=True)
        weights = np.bincount(places, np.tile(weights, 2)) / 2
    return float(weights[sums >= abs(sum(steps))].sum())


def wilson(mean: float, n: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a proportion ``mean`` of ``n`` (which need not be whole).

    Equals ``scipy.stats.binomtest(...).proportion_ci(method="wilson")`` at whole numbers; written out because that
    function takes whole numbers only. The effective size of a clustered sample is not whole.
    """
    if float(n).is_integer() and float(mean * n).is_integer():
        exact = binomtest(int(mean * n), int(n)).proportion_ci(confidence_level=confidence, method="wilson")
        return float(exact.low), float(exact.high)
    z = -float(t.ppf((1 - confidence) / 2, math.inf))
    centre = (mean + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


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


def _joined(one: float, two: float, correlation: float) -> float:
    """The distance between the difference of two correlated estimates and its bound, from their own distances."""
    return math.sqrt(max(0.0, one * one + two * two - 2 * correlation * one * two))


def _correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """What is sure of the correlation of two series: Pearson's r less its standard error 1/sqrt(K), at least 0."""
    x, y = np.asarray(first), np.asarray(second)
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return max(0.0, float(x @ y) / scale - 1 / math.sqrt(len(x))) if scale > 1e-12 else 0.0


def _effective(groups: Sequence[Sequence[float]], confidence: float) -> float:
    """How many independent victims the clustered ones are worth, from the number of trials to that of victims."""
    n, trials = sum(len(group) for group in groups), len(groups)
    if trials in (1, n):
        return float(trials)
    tail = (1 - confidence) / 2
    shrink = (float(t.ppf(tail, n - 1)) / float(t.ppf(tail, trials - 1))) ** 2
    return max(float(trials), n / _design_effect(groups) * shrink)


def _design_effect(groups: Sequence[Sequence[float]]) -> float:
    """By how much clustering inflates the variance of the mean: from 1 (no correlation) to the mean cluster size."""
    total, count = sum(len(group) for group in groups), len(groups)
    size = total / count
    if total == count:
        return 1.0
    icc = _intraclass_correlation(groups)
    return 1 + (size - 1) * min(max(icc, 0.0), 1.0)


def _intraclass_correlation(groups: Sequence[Sequence[float]]) -> float:
    """One-way ANOVA estimate of how alike the values of one group are; 1 where nothing varies or one group is all."""
    total, count = sum(len(group) for group in groups), len(groups)
    mean = sum(sum(group) for group in groups) / total
    means = [sum(group) / len(group) for group in groups]
    between = sum(len(group) * (m - mean) ** 2 for group, m in zip(groups, means, strict=True))
    within = sum((value - m) ** 2 for group, m in zip(groups, means, strict=True) for value in group)
    if count < 2 or between + within == 0:
        return 1.0
    between, within = between / (count - 1), within / (total - count)
    size = (total - sum(len(group) ** 2 for group in groups) / total) / (count - 1)
    return (between - within) / (between + (size - 1) * within)
