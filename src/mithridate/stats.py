"""Rates with honest intervals: the unit of replication is the trial, however many victims each trial has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
