"""Comparing two attacks or two defenses: exact McNemar, a bootstrap of trials, unpaired tests, Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom, binomtest, fisher_exact, norm

from mithridate.errors import ConfigError
from mithridate.intervals import Array
from mithridate.stats import Difference, rate

_PERMUTED = 10_000
"""Draws of the permutation test."""


_MANY = 200
"""Trials from which on a bootstrap draws how often each value comes, where there are few."""

_ROOM = 2_000_000
"""Values drawn at a time."""


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Trials on which two sides disagree, and how likely so uneven a split of them is by chance."""

    first_only: int
    """Trials hit on the first side alone."""
    second_only: int
    """Trials hit on the second side alone."""
    chance: float
    """Two-sided exact p: the discordant trials as fair coin tosses; 1 where there are none."""


def mcnemar(first: Sequence[float], second: Sequence[float]) -> McNemar:
    """McNemar's exact test of two hits (0 or 1) on each of the same trials, one victim a trial (McNemar 1947).

    Raises :class:`ConfigError` where the trials do not match or a value is neither 0 nor 1.
    """
    if len(first) != len(second) or not first:
        raise ConfigError(f"McNemar's test needs the same trials twice, but got {len(first)} and {len(second)}")
    wrong = next((value for value in (*first, *second) if value not in (0, 1)), None)
    if wrong is not None:
        raise ConfigError(f"McNemar's test needs hits of 0 or 1, one a trial, but got {wrong}; compare trial means")
    one, two = (sum(a > b for a, b in zip(*sides, strict=True)) for sides in ((first, second), (second, first)))
    chance = float(binomtest(one, one + two).pvalue) if one + two else 1.0
    return McNemar(first_only=one, second_only=two, chance=chance)


def holm(chances: Sequence[float]) -> list[float]:
    """P-values adjusted for their number, in the order given (Holm 1979, https://www.jstor.org/stable/4615733).

    Calling those at most 5 % clear is wrong anywhere among them with a chance of at most 5 %, however they depend on
    each other. The k-th smallest of n is multiplied by n - k + 1; none is adjusted to less than a smaller one.
    """
    order = sorted(range(len(chances)), key=lambda k: chances[k])
    adjusted, least = [0.0] * len(chances), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(chances) - rank) * chances[place]))
        adjusted[place] = least
    return adjusted


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """The interval of a mean difference by drawing the trials anew."""

    mean: float
    low: float
    high: float
    method: str
    """``bca``; ``percentile`` where the correction cannot be computed; ``none`` where all trials agree: the bounds are
    then the mean itself, which is no certainty."""


def bootstrap(differences: Sequence[float], *, seed: int, draws: int = 10_000, confidence: float = 0.95) -> Bootstrap:
    """The mean of one difference a trial with its BCa interval (Efron 1987, section 6), drawn over trials.

    The same ``seed`` gives the same interval. It is too narrow for few trials (benchmarks/interval_coverage.py): the
    intervals that credit rests on are those of :func:`mithridate.stats.paired`.

    Raises :class:`ConfigError` where there are no trials.
    """
    values = np.asarray(differences, dtype=np.float64)
    if not len(values):
        raise ConfigError("a bootstrap needs at least one trial")
    mean = float(values.mean())
    if float(np.ptp(values)) == 0:
        return Bootstrap(mean=mean, low=mean, high=mean, method="none")
    means = np.sort(_drawn_means(values, draws, np.random.default_rng(seed)))
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    shifted = _bca(values, means, tails)
    low, high = np.quantile(means, tails if shifted is None else shifted)
    return Bootstrap(mean=mean, low=float(low), high=float(high), method="percentile" if shifted is None else "bca")


def _drawn_means(values: Array, draws: int, generator: np.random.Generator) -> Array:
    """The means of so many samples of the trials, with replacement: ``(draws,)``.

    Of many trials with few distinct values only how often each value comes is drawn, which is the same distribution.
    """
    distinct, counts = np.unique(values, return_counts=True)
    if len(values) < _MANY or len(distinct) > len(values) // 4:
        parts = [values[generator.integers(len(values), size=(k, len(values)))].mean(1) for k in _parts(draws, values)]
        return np.concatenate(parts)
    drawn = generator.multinomial(len(values), counts / len(values), size=draws)
    return np.asarray(drawn @ distinct / len(values))


def _bca(values: Array, means: Array, tails: Array) -> Array | None:
    """The quantiles of ``means`` that correct for bias and acceleration; None where there is no such correction."""
    ties = np.abs(means - values.mean()) <= 1e-12  # sums in another order differ in the last bits
    share = float(((means < values.mean()) & ~ties).mean() + ties.mean() / 2)
    left_out = (values.sum() - values) / max(1, len(values) - 1)
    away = left_out.mean() - left_out
    scale = float((away**2).sum())
    if not 0 < share < 1 or scale <= 0:
        return None
    bias, acceleration = float(norm.ppf(share)), float((away**3).sum()) / (6 * scale**1.5)
    z = bias + norm.ppf(tails)
    if np.any(1 - acceleration * z <= 0):
        return None
    return np.asarray(norm.cdf(bias + z / (1 - acceleration * z)))


def chance_of_split(one: Array, total: Array) -> Array:
    """Two-sided exact p of ``one`` of ``total`` fair coin tosses, for many at once; as :func:`mcnemar` computes it."""
    fewer = np.minimum(one, total - one)
    return np.asarray(np.minimum(1.0, 2 * binom.cdf(fewer, total, 0.5)))


def unpaired(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> Difference:
    """The rate of ``first`` less that of ``second`` over trials that are not the same, values in [0, 1].

    The interval is put together from those of the two rates (Newcombe 1998, method 10). ``chance`` is two-sided:
    Fisher's exact test where every trial is one hit or none, else a permutation of the trials' means (10 000 draws,
    always the same). Raises :class:`ConfigError` where a side has no value.
    """
    one, two = rate(first), rate(second)
    gap = one.mean - two.mean
    down = math.hypot(one.mean - one.low, two.high - two.mean)
    up = math.hypot(one.high - one.mean, two.mean - two.low)
    return Difference(
        mean=gap,
        low=max(-1.0, gap - down),
        high=min(1.0, gap + up),
        chance=_chance_apart([each for each in first if len(each)], [each for each in second if len(each)]),
        trials=min(one.trials, two.trials),
    )


def single_hits(by_trial: Sequence[Sequence[float]]) -> bool:
    """Whether every trial has one victim, which was hit or not."""
    return all(len(values) == 1 and values[0] in (0, 1) for values in by_trial)


def _chance_apart(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> float:
    if single_hits(first) and single_hits(second):
        hits = [sum(values[0] for values in side) for side in (first, second)]
        table = [[hit, len(side) - hit] for hit, side in zip(hits, (first, second), strict=True)]
        return float(fisher_exact(table).pvalue)
    means = [np.array([sum(values) / len(values) for values in side]) for side in (first, second)]
    both, count = np.concatenate(means), len(means[0])
    generator, seen, as_far = np.random.default_rng(0), abs(means[0].mean() - means[1].mean()), 0
    for draws in _parts(_PERMUTED, both):
        drawn = both[generator.random((draws, len(both))).argsort(1)]
        gaps = abs(drawn[:, :count].mean(1) - drawn[:, count:].mean(1))
        as_far += int((gaps >= seen - 1e-12).sum())
    return float((1 + as_far) / (1 + _PERMUTED))


def _parts(draws: int, values: Array) -> list[int]:
    """So many samples of all values in parts that fit into memory; what is drawn does not depend on them."""
    most = max(1, _ROOM // len(values))
    return [min(most, draws - done) for done in range(0, draws, most)]
