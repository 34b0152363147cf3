"""What a number of trials can tell apart: power by counting every outcome, in plain words."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.stats import binom

from mithridate.errors import ConfigError
from mithridate.intervals import Array
from mithridate.stats import worth_of

_STEP = 0.01
"""Rates are told in whole per cent."""
_MOST = 2000
"""Trials beyond which nothing is planned."""
COUNTED = 20_000
"""More trials are told as if they were these: they tell rates apart to the per cent."""
_KEPT = 5
"""For how many numbers of trials more the power must be kept: it goes up in a saw-tooth."""


def chance_to_tell(trials: int, first: float, second: float, *, level: float = 0.05) -> float:
    """The power of McNemar's exact two-sided test at ``level`` to tell two rates over the same ``trials``.

    One victim a trial on each side, hits of the two sides independent: where a trial that is hard for one side is hard
    for the other, the power is higher. Every outcome is counted: nothing is drawn.
    """
    _check(trials, first, second)
    up, down = first * (1 - second), second * (1 - first)
    discordant = up + down
    if discordant == 0:
        return 0.0
    total = np.arange(trials + 1)
    least = critical(trials, level)  # the most on the smaller side that is still significant; -1: none
    share = up / discordant
    reject = binom.cdf(least, total, share) + binom.sf(total - least - 1, total, share)
    return float((binom.pmf(total, trials, min(1.0, discordant)) * np.where(least >= 0, reject, 0.0)).sum())


@lru_cache(maxsize=256)
def critical(most: int, level: float) -> Array:
    """For 0 to ``most`` discordant trials, how many may lie on the smaller side for a two-sided p of at most ``level``.

    -1 where even 0 would not do.
    """
    total = np.arange(most + 1)
    least = binom.ppf(level / 2, total, 0.5)
    least = np.where(2 * binom.cdf(least, total, 0.5) <= level, least, least - 1)
    return np.where(total > 0, least, -1.0)


def below(trials: int, rate: float, *, power: float = 0.8, level: float = 0.05) -> float | None:
    """The highest rate below ``rate``, in whole per cent, that ``trials`` tell from it; None where there is none."""
    highest = math.ceil(rate / _STEP - 1e-9) - 1

    def told(percent: int) -> bool:
        return chance_to_tell(trials, rate, round(percent * _STEP, 2), level=level) >= power

    if highest < 0 or not told(0):
        return None
    return round((bisect_left(range(1, highest + 1), True, key=lambda percent: not told(percent))) * _STEP, 2)


def above(trials: int, rate: float, *, power: float = 0.8, level: float = 0.05) -> float | None:
    """The lowest rate above ``rate``, in whole per cent, that ``trials`` tell from it; None where there is none."""
    found = below(trials, 1 - rate, power=power, level=level)  # hits and misses change places
    return None if found is None else round(1 - found, 2)


def trials_needed(first: float, second: float, *, power: float = 0.8, level: float = 0.05) -> int | None:
    """How many trials tell two rates apart with this power; None where 2000 do not.

    As for :func:`chance_to_tell`. The smallest number that has the power, and keeps it for the next few.
    """
    _check(1, first, second)
    if first == second:
        return None

    def enough(trials: int) -> bool:
        return all(chance_to_tell(trials + k, first, second, level=level) >= power for k in range(_KEPT))

    high = 8
    while not enough(high):
        high *= 2
        if high > 2 * _MOST:
            return None
    low = high // 2 if high > 8 else 1
    return next(trials for trials in range(low, high + 1) if enough(trials))


def sentence(by_trial: Sequence[Sequence[float]], *, power: float = 0.8, level: float = 0.05) -> str:
    """What these trials can tell from their own rate.

    As in: These 20 trials can tell 45 % from 4 % or less (or from 91 % or more), not from 24 %.
    Victims of one trial count for as much as they are worth (:func:`mithridate.stats.worth_of`).
    Raises :class:`ConfigError` where there are no values.
    """
    groups = [values for values in by_trial if len(values)]
    values = [value for group in groups for value in group]
    if not values:
        raise ConfigError("power needs at least one trial")
    worth, rate = min(int(worth_of(groups)), COUNTED), rounded(sum(values) / len(values))
    trials = f"These {len(groups)} trials" if len(groups) > 1 else "This one trial"
    under, over = below(worth, rate, power=power, level=level), above(worth, rate, power=power, level=level)
    if under is None and over is None:
        return f"{trials} cannot tell {_percent(rate)} from any other rate.{_how(power, level)}"
    known, edge = (rate, under) if under is not None else (rate, over)
    assert edge is not None
    near = round((known + edge) / 2, 2)
    more = "" if under is None or over is None else f" (or from {_percent(over)} or more)"
    bound = "or less" if under is not None else "or more"
    missed = f", not from {_percent(near)}" if near not in (known, edge) else ""
    return f"{trials} can tell {_percent(known)} from {_percent(edge)} {bound}{more}{missed}.{_how(power, level)}"


def rounded(rate: float) -> float:
    """A rate in whole per cent; in tenths below 10 % and above 90 %, and finer where it would be 0 or 1 else."""
    edge = min(rate, 1 - rate)
    return round(rate, 2 if edge >= 0.1 else 3 if edge >= 0.001 or edge == 0 else 5)


def _how(power: float, level: float) -> str:
    return (
        f" (McNemar's exact test over the same trials at {_percent(level)}, with a power of {_percent(power)}, "
        "hits of the two sides independent.)"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3f}".rstrip("0").rstrip(".") + "\N{NO-BREAK SPACE}%"


def _check(trials: int, first: float, second: float) -> None:
    if trials < 1:
        raise ConfigError(f"power needs at least one trial, but got {trials}")
    for rate in (first, second):
        if not 0 <= rate <= 1:
            raise ConfigError(f"rates must lie in [0, 1], but got {rate}")
