"""One-sided bounds on what a run measured, by trials: of rates, of means, and of the rise of an error."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, t

from mithridate.intervals import exact
from mithridate.report.combinations import Cell, by_trial
from mithridate.report.means import gap, gaps
from mithridate.report.stopped import Stopping
from mithridate.sequential import confidence_sequence
from mithridate.stats import mean_interval

_MOST = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Bounded:
    """A mean with its bounds, each one-sided: each holds with the confidence asked for, by itself."""

    mean: float
    low: float
    high: float
    trials: int
    spread: float = 0.0
    """Standard deviation of the values of the trials, where the bounds are of a mean of real values."""
    looked: bool = False
    """Whether the bounds hold however often one looked, and are the wider for it."""


def success_bounds(cell: Cell, stopping: Stopping | None, *, below: float, above: float) -> Bounded:
    """Bounds of a rate of success: the lower at confidence ``below``, the upper at ``above``.

    Exact ones (Clopper & Pearson 1934) of the mean of the trials' means over the number of **trials**, however many
    victims each has: what victims of one trial have in common cannot be seen in few hits, and a gate must err on the
    side of caution at every rate. Exact where every trial is hit or not; for trials hit in part they are never below
    Stringer's bound (:func:`upper`), and benchmarks/interval_coverage.py finds none that errs more often than it says.
    Where trials were added until the rate was known well enough, the bounds are those of the confidence sequence.
    """
    means = [_mean(values) for values in by_trial(cell.poisoned)]
    if stopping is not None:
        least, most = (confidence_sequence(means, confidence=each) for each in (below, above))
        return Bounded(mean=most.mean, low=least.low, high=most.high, trials=len(means), looked=True)
    mean, trials = _mean(means), len(means)
    low, high = exact(mean, trials, confidence=2 * below - 1)[0], exact(mean, trials, confidence=2 * above - 1)[1]
    return Bounded(mean=mean, low=low, high=high, trials=trials)


def rise_bounds(cell: Cell, stopping: Stopping | None, *, below: float, above: float) -> Bounded | None:
    """Bounds of the rise of a mean share over clean data; None where no clean victim was judged.

    The wider of Student's t, which knows nothing of rare large rises, and of Stringer's bound (:func:`upper`), for
    rises of at most 1 and of at least what no poisoned error would be below the worst clean one. Where trials were
    added until a rate was known well enough, both shares have a confidence sequence of their own, each with half of
    what may go wrong: wider, and valid all the same.
    """
    if stopping is not None and cell.clean:
        return _sequential_rise(cell, below=below, above=above)
    least, most = (gap(cell.poisoned, cell.clean, confidence=2 * each - 1) for each in (below, above))
    values, bottom = gaps(cell.poisoned, cell.clean)
    if least is None or most is None or not values:
        return None
    low = min(least.low, lower(values, bottom, confidence=below))
    high = max(most.high, upper(values, 1.0, confidence=above))
    return Bounded(mean=most.mean, low=low, high=high, trials=most.trials, spread=_spread(values))


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
        spread=_spread(poisoned),
        looked=True,
    )


def accuracy_bounds(cell: Cell, stopping: Stopping | None, *, below: float, above: float) -> Bounded | None:
    """Bounds of the mean accuracy on clean test data of poisoned victims, by trial; None where it is not known.

    The wider of Student's t and of Stringer's bound (:func:`upper`). Where trials were added until a rate was known
    well enough, those of the confidence sequence: a victim that is hit may be less accurate, too.
    """
    means = _accuracies(cell)
    if not means:
        return None
    if stopping is not None:
        worst, best = (confidence_sequence(means, confidence=each) for each in (below, above))
        return Bounded(mean=best.mean, low=worst.low, high=best.high, trials=len(means), looked=True)
    least, most = (mean_interval(means, confidence=2 * each - 1) for each in (below, above))
    low = max(0.0, min(least.low, lower(means, 0.0, confidence=below)))
    high = min(1.0, max(most.high, upper(means, 1.0, confidence=above)))
    return Bounded(mean=most.mean, low=low, high=high, trials=len(means), spread=_spread(means))


def upper(values: Sequence[float], most: float, *, confidence: float) -> float:
    """A one-sided upper bound of the mean of values that are at most ``most``, whatever their distribution.

    Stringer's (1963): the values, largest first, weigh by how much each further hit raises the exact bound of a rate
    (Clopper & Pearson), and the rest of the weight lies at ``most``. Asymptotically conservative (Pap & van Zuijlen
    1996), and no case is known where it errs more often than it says. Where all values agree, a share of
    ``1 - (1 - confidence) ** (1 / n)`` of others may never have shown.
    """
    found, count = np.sort(np.asarray(values, dtype=np.float64))[::-1], len(values)
    steps = np.append(beta.ppf(confidence, np.arange(1, count + 1), np.arange(count, 0, -1)), 1.0)
    return most - float((np.diff(steps) * (most - found)).sum())


def lower(values: Sequence[float], least: float, *, confidence: float) -> float:
    """The same from below, of values that are at least ``least``."""
    return -upper([-value for value in values], -least, confidence=confidence)


def trials_to_pass(found: Bounded, limit: float, *, confidence: float) -> int | None:
    """How many trials in all would bring the upper bound of a rate to ``limit``, if the rate stays.

    None: none, or none that can be named, as of bounds that allow for looking.
    """
    if found.mean >= limit or found.looked:
        return None

    def enough(trials: int) -> bool:
        return exact(found.mean, trials, confidence=2 * confidence - 1)[1] <= limit

    low, high = found.trials, max(8, found.trials)
    while not enough(high):
        low, high = high, 2 * high
        if high > _MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def trials_by_spread(found: Bounded, distance: float, room: float, *, confidence: float) -> int | None:
    """How many trials in all bring a bound of a mean within ``distance`` of it; None: none that can be named.

    If mean and spread stay as they are: by Student's t, and so many that a share of others that never showed, each
    ``room`` away from the mean, would not move it farther.
    """
    if distance <= 0 or found.trials < 2 or found.looked:
        return None

    def enough(trials: int) -> bool:
        hidden = -math.expm1(math.log1p(-confidence) / trials)
        student = float(t.ppf(confidence, trials - 1)) * found.spread / math.sqrt(trials)
        return max(student, hidden * room) <= distance

    tried = range(found.trials, _MOST)
    place = bisect_left(tried, True, key=enough)
    return tried[place] if 0 < place < len(tried) else None  # 0: values are so uneven that neither is what lacks


def _accuracies(cell: Cell) -> list[float]:
    known: dict[int, list[float]] = {}
    for victim in cell.poisoned:
        if victim.clean_accuracy is not None:
            known.setdefault(victim.trial, []).append(victim.clean_accuracy)
    return [_mean(values) for values in known.values()]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _spread(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
