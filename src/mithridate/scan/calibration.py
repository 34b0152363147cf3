"""What a method does with planted rows, and what it takes to say that it can tell them from others.

Thresholds are set by false alarms: of the rows nobody planted, a given share may lie above. Three things keep the
numbers honest:

1. A threshold is set on one half of the rows and tried on the other, both ways, so the false-alarm rate reported is
   that of rows which did not set it. Planted rows are tried at one of the two thresholds, in turn.
2. Rows nobody planted may hold poison of somebody else. A method that finds it has it counted as false alarms, so the
   rate reported is too high rather than too low, and recall too low rather than too high.
3. A method can tell a kind of poison where the interval of its recall lies wholly above that of its false alarms
   (Wilson's, 95 %), and where a method that draws lots, at the upper bound of those false alarms, would find as many
   planted rows with a chance below 1 % over all methods and kinds tried. (The intervals alone are not enough: 2 of 25
   at 1 % pass, and with 15 tries somebody has such luck every third time.) What cannot tell flags nothing and has no
   part in the ranking.

Small data take little poison without being changed by it, so poison is then planted in several copies in turn. Every
copy has a probe of its own; shares, not scores, are pooled. False alarms of the copies are of the same rows, so they
count as those of one copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from mithridate.scan.methods import Floats
from mithridate.seeding import Seed
from mithridate.stats import wilson

Bools = NDArray[np.bool_]
Integers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Copy:
    """One copy of the data with poison planted in it, and what the methods say of its rows."""

    scores: Mapping[str, Floats]
    """By method, ``(N,)``; NaN for rows not looked at."""
    rows: Mapping[str, Integers]
    """By kind of poison, the positions ``(m,)`` of the rows planted."""

    def others(self) -> Bools:
        """The rows nobody planted, ``(N,)``."""
        found = np.ones(len(next(iter(self.scores.values()))), dtype=bool)
        for rows in self.rows.values():
            found[rows] = False
        return found


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share with Wilson's 95 % interval."""

    hits: float
    total: int
    low: float
    high: float

    @property
    def mean(self) -> float:
        """The share itself."""
        return self.hits / self.total


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a method does with one kind of planted poison."""

    method: str
    kind: str
    recall: Share
    """Of the planted rows, those above the threshold."""
    alarms: Share
    """Of the other rows, those above the threshold."""

    tries: int
    """Methods times kinds that were tried."""

    @property
    def able(self) -> bool:
        """Whether planted rows were clearly found more often than others."""
        luck = float(binom.sf(self.recall.hits - 1, self.recall.total, min(1.0, self.alarms.high)))
        return self.recall.low > self.alarms.high and luck * self.tries < LEVEL


LEVEL = 0.01
"""Chance that some method is believed able which draws lots."""
TOGETHER = "together"
"""The name of all methods that can tell, taken together: a row is found where one of them finds it."""


def threshold(scores: Floats, rate: float) -> float:
    """The lowest of ``scores`` ``(n,)`` that at most ``rate`` of them exceed. NaN counts as lowest of all."""
    ranked = np.sort(_known(scores))[::-1]
    return float(ranked[min(int(rate * len(ranked) + 1e-9), len(ranked) - 1)])


def above(scores: Floats, limit: float) -> Bools:
    """Which of ``scores`` exceed ``limit``; NaN never does."""
    return _known(scores) > limit


def measured(copies: Sequence[Copy], *, rate: float, seed: Seed) -> list[Measured]:
    """Every method with every kind of poison, and last, for each kind, all methods together that can tell any."""
    names, kinds = list(copies[0].scores), list(copies[0].rows)
    found = [[_found(copy, name, rate, seed.child(k)) for k, copy in enumerate(copies)] for name in names]
    single = [
        _measured(name, kind, copies, marks, len(names))
        for name, marks in zip(names, found, strict=True)
        for kind in kinds
    ]
    able = {each.method for each in single if each.able}
    if not able:
        return single
    union = [
        np.logical_or.reduce([marks[k] for name, marks in zip(names, found, strict=True) if name in able])
        for k in range(len(copies))
    ]
    return single + [_measured(TOGETHER, kind, copies, union, len(names)) for kind in kinds]


def _found(copy: Copy, name: str, rate: float, seed: Seed) -> Bools:
    """Which rows of a copy a method finds, ``(N,)``: the rows of either half at the threshold of the other half."""
    scores, others = copy.scores[name], copy.others()
    half = np.random.default_rng(seed.value).permutation(len(scores)) % 2 == 0
    for rows in copy.rows.values():
        half[rows] = np.arange(len(rows)) % 2 == 0
    found = np.zeros(len(scores), dtype=bool)
    for side in (half, ~half):
        found[side] = above(scores[side], threshold(scores[~side & others], rate))
    return found


def _measured(name: str, kind: str, copies: Sequence[Copy], marks: Sequence[Bools], methods: int) -> Measured:
    hits = [marked[copy.rows[kind]] for copy, marked in zip(copies, marks, strict=True)]
    alarms = [marked[copy.others()] for copy, marked in zip(copies, marks, strict=True)]
    rate, rows = float(np.mean(np.concatenate(alarms))), len(alarms[0])
    return Measured(
        method=name,
        kind=kind,
        recall=share(int(np.sum(np.concatenate(hits))), sum(map(len, hits))),
        alarms=share(rate * rows, rows),
        tries=methods * len(copies[0].rows),
    )


def share(hits: float, total: int) -> Share:
    """``hits`` of ``total``, with Wilson's interval."""
    low, high = wilson(hits / total, total)
    return Share(hits=hits, total=total, low=low, high=high)


def _known(scores: Floats) -> Floats:
    return np.where(np.isnan(scores), -np.inf, scores)
