"""Mean shares of test rows with honest intervals: for attacks that degrade, where success is no count of targets."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence

from scipy.stats import t

from mithridate.report.load import Victim
from mithridate.report.remembering import is_sequential, remembered, remembered_of_both
from mithridate.sequential import confidence_sequence
from mithridate.stats import Difference, Estimate, mean_interval, sign_flip

_SPREAD = 1e-6
"""Standard errors of shares below this are rounding (runs of older releases hold float32 shares), and no spread."""
Value = Callable[[Victim], float | None]


def of_success(victim: Victim) -> float | None:
    """What the poisoner wanted: the default measure."""
    return victim.success


def average(victims: Sequence[Victim], value: Value = of_success) -> Estimate | None:
    """The mean of a share in [0, 1] with Student's t interval over its independent parts; None where nothing is known.

    The parts are trials, each by the mean of its victims; where one training is judged on several trials (clean victims
    that all trials share), they are trainings. A single part has no spread, nor have equal ones: their interval is the
    mean itself, which the words for it do not show as one, because it is no certainty. Where trials were added until a
    rate was known well enough, the interval over trials is the one that holds however often one looked.
    """
    if value is of_success:
        return remembered(victims, "average", lambda: _average(victims, value))
    return _average(victims, value)


def _average(victims: Sequence[Victim], value: Value) -> Estimate | None:
    parts = list(_parts(victims, value).values())
    if not parts:
        return None
    found = mean_interval([sum(each) / len(each) for each in parts])
    count = len({victim.training for victim in victims})
    if is_sequential(victims) and not _is_shared(victims):
        sure = confidence_sequence([min(1.0, max(0.0, _mean(each))) for each in parts])
        return Estimate(mean=found.mean, low=sure.low, high=sure.high, trials=found.trials, victims=count)
    low, high = max(0.0, found.low), min(1.0, found.high)
    if _error([sum(each) / len(each) for each in parts]) < _SPREAD:
        low = high = found.mean
    return Estimate(mean=found.mean, low=low, high=high, trials=found.trials, victims=count)


def gap(
    first: Sequence[Victim], second: Sequence[Victim], value: Value = of_success, *, confidence: float = 0.95
) -> Difference | None:
    """A mean share less another over the trials that both have; None where there are none.

    Paired by trial, with Student's t interval of the differences. Where one side shares its trainings between trials
    nothing is paired: the two standard errors are added in squares, with the fewer degrees of freedom (a single shared
    training counts as known exactly). ``chance`` is the one-sided p of the same t test; where all differences are equal
    it is that of the sign-flip test, and the interval is the mean itself. With a single trial nothing is known but the
    difference.
    """
    if value is of_success and confidence == 0.95:
        return remembered_of_both(first, second, "gap", lambda: _gap(first, second, value, confidence))
    return _gap(first, second, value, confidence)


def gaps(first: Sequence[Victim], second: Sequence[Victim], value: Value = of_success) -> tuple[list[float], float]:
    """What :func:`gap` is the mean of, and the least that it can be where no part of ``second`` is above those seen.

    By trial, or each part of ``first`` less the mean of ``second`` where trials share trainings.
    """
    shared = {victim.trial for victim in first} & {victim.trial for victim in second}
    one, two = ([each for each in side if each.trial in shared] for side in (first, second))
    left, right = _parts(one, value), _parts(two, value)
    if not left or not right:
        return [], -1.0
    if _is_shared(one) or _is_shared(two):
        known = _mean(_means(two, value))
        return [_mean(each) - known for each in left.values()], -known
    both = [trial for trial in left if trial in right]
    found = [_mean(left[trial]) - _mean(right[trial]) for trial in both]
    return found, -max((_mean(right[trial]) for trial in both), default=1.0)


def _gap(first: Sequence[Victim], second: Sequence[Victim], value: Value, confidence: float) -> Difference | None:
    shared = {victim.trial for victim in first} & {victim.trial for victim in second}
    one, two = ([each for each in side if each.trial in shared] for side in (first, second))
    if _is_shared(one) or _is_shared(two):
        return _apart(_means(one, value), _means(two, value), confidence)
    left, right = _parts(one, value), _parts(two, value)
    both = [trial for trial in left if trial in right]
    gaps = [_mean(left[trial]) - _mean(right[trial]) for trial in both]
    return _difference(_mean(gaps), _error(gaps), len(gaps) - 1, gaps, confidence) if gaps else None


def _apart(one: Sequence[float], two: Sequence[float], confidence: float) -> Difference | None:
    """The difference of two means that share no trial."""
    if not one or not two:
        return None
    free = [len(side) - 1 for side in (one, two) if len(side) > 1]
    mean, error = _mean(one) - _mean(two), math.hypot(_error(one), _error(two))
    alone = len(one) < 2 and len(two) < 2
    return _difference(mean, error, 0 if alone else min(free), [mean] * len(one), confidence)


def _difference(mean: float, error: float, free: int, gaps: Sequence[float], confidence: float) -> Difference:
    if free < 1:
        return Difference(mean=mean, low=-1.0, high=1.0, chance=1.0, trials=len(gaps))
    if error < _SPREAD:
        return Difference(mean=mean, low=mean, high=mean, chance=sign_flip(gaps), trials=len(gaps))
    half, chance = float(t.ppf(0.5 + confidence / 2, free)) * error, float(t.sf(abs(mean) / error, free))
    low, high = max(-1.0, mean - half), min(1.0, mean + half)
    return Difference(mean=mean, low=low, high=high, chance=chance, trials=len(gaps))


def _is_shared(victims: Sequence[Victim]) -> bool:
    """Whether a training was judged on several trials."""
    return len({(victim.training, victim.trial) for victim in victims}) > len({each.training for each in victims})


def _parts(victims: Sequence[Victim], value: Value) -> dict[Hashable, list[float]]:
    """The known values by trial, or by training where trials share them."""
    shared = _is_shared(victims)
    found: dict[Hashable, list[float]] = {}
    for victim in victims:
        known = value(victim)
        if known is not None:
            found.setdefault(victim.training if shared else victim.trial, []).append(known)
    return found


def _means(victims: Sequence[Victim], value: Value) -> list[float]:
    return [_mean(each) for each in _parts(victims, value).values()]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _error(values: Sequence[float]) -> float:
    """The standard error of a mean."""
    if len(values) < 2:
        return 0.0
    mean = _mean(values)
    return math.sqrt(sum((each - mean) ** 2 for each in values) / (len(values) - 1) / len(values))
