"""Intervals that hold however often one looks, so that trials may be added until they are narrow enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mithridate.errors import ConfigError
from mithridate.intervals import Array

BLOCK = 5
"""Trials between two looks. Whether to go on depends on whole blocks alone, never on which job ended first."""

_BETS = 128
"""Means that the gambler's money is spread over: their grid is finer than any interval of a thousand trials."""
_GRID = 400
"""Means tried for the outermost that cannot be excluded; each end is then sought between two of them."""
_HALVINGS = 24


@dataclass(frozen=True, kw_only=True)
class Sequential:
    """The mean of one value a trial, with an interval that holds at all times together."""

    mean: float
    low: float
    high: float
    trials: int

    @property
    def width(self) -> float:
        """From the lower bound to the upper one."""
        return self.high - self.low


def confidence_sequence(values: Sequence[float], *, confidence: float = 0.95) -> Sequential:
    """The interval of the mean of values in [0, 1], one a trial, valid at any moment to stop.

    With a chance of at least ``confidence`` the true mean lies in it after every number of trials at once. It is the
    set of means m against which no gambler has grown rich (Ville 1939; Waudby-Smith & Ramdas 2023,
    https://arxiv.org/abs/2010.09686): one who believes in a mean q stakes so that a trial of value x multiplies his
    money by ``x q / m + (1 - x) (1 - q) / (1 - m)``, whose mean is 1 where m is true, whatever else is; the money is
    spread over many q (the nodes of Beta(1/2, 1/2), as the universal portfolio does: Orabona & Jun 2024,
    https://arxiv.org/abs/2110.14099). For hits of 0 and 1 this is the beta-binomial mixture. A trial of several victims
    goes in with its mean. The order of the trials does not matter.

    Raises :class:`ConfigError` where there are no values, or values outside [0, 1].
    """
    if not len(values):
        raise ConfigError("an interval needs at least one trial")
    if not all(0 <= value <= 1 for value in values):
        raise ConfigError(f"values must lie in [0, 1], but they range from {min(values)} to {max(values)}")
    seen, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    mean, rich = float(np.mean(values)), -float(np.log1p(-confidence))

    def fits(tried: Array) -> NDArray[np.bool_]:
        return _log_wealth(seen, counts, tried) < rich

    grid = (np.arange(_GRID) + 0.5) / _GRID
    kept = np.append(grid[fits(grid)], mean)  # against the mean of what was seen nobody has won
    low, high = float(kept.min()), float(kept.max())
    return Sequential(
        mean=mean,
        low=0.0 if mean == 0 else _edge(fits, low, float(grid[grid < low].max(initial=0.0))),
        high=1.0 if mean == 1 else _edge(fits, high, float(grid[grid > high].min(initial=1.0))),
        trials=len(values),
    )


def narrow_enough(by_cell: Sequence[Sequence[float]], width: float) -> bool:
    """Whether the interval of every cell, given by the values of its trials, is at most this wide."""
    return all(len(values) and confidence_sequence(values).width <= width for values in by_cell)


def blocks(trials: Sequence[int]) -> list[Sequence[int]]:
    """The numbers of trials in the blocks after which one may stop."""
    return [trials[start : start + BLOCK] for start in range(0, len(trials), BLOCK)]


def _edge(fits: Callable[[Array], NDArray[np.bool_]], inside: float, outside: float) -> float:
    """The bound between a mean that fits and one that does not, from the side that does not."""
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if fits(np.array([middle]))[0] else (inside, middle)
    return outside


def _log_wealth(seen: Array, counts: NDArray[np.int64], tried: Array) -> Array:
    """The logarithm of the gambler's money, which was 1, for every mean ``tried``, ``(M,)`` in (0, 1)."""
    bets = _bets()[:, None]
    up, down = bets / tried, (1 - bets) / (1 - tried)  # (bets, M)
    logs = np.zeros_like(up)
    for value, count in zip(seen, counts, strict=True):
        logs += count * np.log(value * up + (1 - value) * down)
    return np.asarray(np.logaddexp.reduce(logs, axis=0) - np.log(_BETS))


def wealth_paths(values: Array, mean: float) -> Array:
    """The gambler's money against one ``mean`` in (0, 1) after every trial, of many runs ``(runs, trials)``.

    It stays below ``1 / (1 - confidence)`` as long as :func:`confidence_sequence` holds that mean.
    """
    bets = _bets()[:, None]
    down = (1 - bets) / (1 - mean)
    slope, money = bets / mean - down, np.ones((_BETS, len(values)))
    paths = np.empty(values.shape)
    with np.errstate(over="ignore", under="ignore"):  # unbounded riches, and next to nothing
        for k, column in enumerate(values.T):
            money *= slope * column + down
            paths[:, k] = money.mean(0)
    return paths


def _bets() -> Array:
    """The means that the money is spread over equally: nodes of Beta(1/2, 1/2), in (0, 1)."""
    return np.asarray(np.sin((2 * np.arange(_BETS) + 1) * np.pi / (4 * _BETS)) ** 2)
