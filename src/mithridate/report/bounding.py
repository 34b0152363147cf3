"""One-sided bounds on what a run measured, by trials: of rates, of means, and of the rise of an error."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import t

from mithridate.intervals import exact
from mithridate.report.combinations import Cell, by_trial
from mithridate.report.means import gap
from mithridate.report.stopped import Stopping
from mithridate.sequential import confidence_sequence
from mithridate.stats import mean_interval, rate, worth_of

_MOST = 1_000_000
_ALIKE = 1e-6
"""Intervals narrower than this are of trials that agree."""


@dataclass(frozen=True, kw_only=True)
class Bounded:
    """A mean with its bounds, each one-sided: each holds with the confidence asked for, by itself."""

    mean: float
    low: float
    high: float
    trials: int
    worth: float
    """How many independent values the bounds were computed with."""


def success_bounds(cell: Cell, stopping: Stopping | None, *, below: float, above: float) -> Bounded:
    """Bounds of a rate of success: the lower at confidence ``below``, the upper at ``above``.

    Exact (Clopper & Pearson 1934), at the effective number of victims (Korn & Graubard 1998) where trials have several:
    a gate must err on the side of caution at every rate, not on average over rates. Where trials were added until the
    rate was known well enough, the bounds are those of the confidence sequence.
    """
    groups = by_trial(cell.poisoned)
    if stopping is not None:
        means = [sum(values) / len(values) for values in groups]
        low, high = (confidence_sequence(means, confidence=each) for each in (below, above))
        return Bounded(mean=high.mean, low=low.low, high=high.high, trials=len(means), worth=len(means))
    least, most = (rate(groups, confidence=2 * each - 1, method="exact") for each in (below, above))
    return Bounded(mean=most.mean, low=least.low, high=most.high, trials=most.trials, worth=worth_of(groups))


def rise_bounds(cell: Cell, stopping: Stopping | None, *, below: float, above: float) -> Bounded | None:
    """Bounds of the rise of a mean share over clean data, by Student's t; None where no clean victim was judged.

    Where trials were added until a rate was known well enough, both shares have a confidence sequence of their own,
    each with half of what may go wrong: wider, and valid all the same.
    """
    if stopping is not None and cell.clean:
        return _sequential_rise(cell, below=below, above=above)
    least, most = (gap(cell.poisoned, cell.clean, confidence=2 * each - 1) for each in (below, above))
    if least is None or most is None:
        return None
    low, high = least.low, most.high
    if most.trials < 2 or most.high - most.low < _ALIKE:
        low, high = _alike(most.mean, most.trials, below, -1.0)[0], _alike(most.mean, most.trials, above, -1.0)[1]
    return Bounded(mean=most.mean, low=low, high=high, trials=most.trials, worth=most.trials)


def _sequential_rise(cell: Cell, *, below: float, above: float) -> Bounded:
    poisoned = [_mean(values) for values in by_trial(cell.poisoned)]
    trainings: dict[str, list[float]] = {}
    for victim in cell.clean:
        trainings.setdefault(victim.training, []).append(victim.success)
    clean = [_mean(values) for values in trainings.values()]
    least, most = (
        [confidence_sequence(values, confidence=(1 + each) / 2) for values in (poisoned, clean)]
        for each in (below, above)
    )
    return Bounded(
        mean=most[0].mean - most[1].mean,
        low=least[0].low - least[1].high,
        high=most[0].high - most[1].low,
        trials=len(poisoned),
        worth=len(poisoned),
    )


def accuracy_bounds(cell: Cell, *, below: float, above: float) -> Bounded | None:
    """Bounds of the mean accuracy on clean test data of poisoned victims, by trial; None where it is not known."""
    means = _accuracies(cell)
    if not means:
        return None
    least, most = (mean_interval(means, confidence=2 * each - 1) for each in (below, above))
    low, high = max(0.0, least.low), min(1.0, most.high)
    if len(means) < 2 or most.high - most.low < _ALIKE:
        low, high = _alike(most.mean, len(means), below, 0.0)[0], _alike(most.mean, len(means), above, 0.0)[1]
    return Bounded(mean=most.mean, low=low, high=high, trials=len(means), worth=len(means))


def trials_to_pass(found: Bounded, limit: float, *, confidence: float) -> int | None:
    """How many trials in all would bring the upper bound of a rate to ``limit``, if the rate stays; None: none."""
    if found.mean >= limit or not found.worth:
        return None
    each = found.worth / found.trials

    def enough(trials: int) -> bool:
        return exact(found.mean, trials * each, confidence=2 * confidence - 1)[1] <= limit

    low, high = found.trials, max(8, found.trials)
    while not enough(high):
        low, high = high, 2 * high
        if high > _MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def trials_by_spread(found: Bounded, distance: float, half: float, *, confidence: float) -> int | None:
    """How many trials in all bring a bound of a mean, now ``half`` away, within ``distance`` of it; None: none.

    By Student's t, if mean and spread stay as they are.
    """
    if distance <= 0 or found.trials < 2:
        return None
    spread = half / float(t.ppf(confidence, found.trials - 1)) * math.sqrt(found.trials)
    tried = range(found.trials, _MOST)
    place = bisect_left(tried, True, key=lambda n: float(t.ppf(confidence, n - 1)) * spread / math.sqrt(n) <= distance)
    return tried[place] if place < len(tried) else None


def _alike(mean: float, trials: int, confidence: float, least: float) -> tuple[float, float]:
    """Bounds of a mean where all trials agree: a share of others that never showed may lie as far off as can be.

    That share is at most ``1 - (1 - confidence) ** (1 / trials)``.
    """
    hidden = -math.expm1(math.log1p(-confidence) / trials)
    return mean - hidden * (mean - least), mean + hidden * (1 - mean)


def _accuracies(cell: Cell) -> list[float]:
    known: dict[int, list[float]] = {}
    for victim in cell.poisoned:
        if victim.clean_accuracy is not None:
            known.setdefault(victim.trial, []).append(victim.clean_accuracy)
    return [_mean(values) for values in known.values()]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
