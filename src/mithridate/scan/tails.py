"""Whether a folder holds more suspect rows than a clean one would: the test behind the verdict of a scan.

Some rows of any clean folder lie above any threshold: at a false-alarm rate of 1 %, 1 % of them. Nobody has a clean
copy of the folder to compare with, either. So the verdict rests on the shape of the scores. Those of clean rows thin
out towards the suspicious end, and the farther out, the faster (distributions with such tails, the normal, logistic and
exponential ones among them, have an *increasing hazard rate*). Poison that a method can tell from clean rows adds rows
far out, where hardly any are left. The test, for one method:

1. *Anchors* ``u``: the scores that half, a fifth and a twentieth of the rows exceed. *Marks* ``t``: the scores that
   three quarters, half and a quarter of the planted rows reach. Every mark is tried from every anchor below it.
2. From the rows between ``u`` and ``t``, the rate ``h`` at which scores thin out is estimated, as if the tail were
   exponential. Where the hazard rate increases, at most a share ``exp(-h (t - u))`` of the rows beyond ``u`` lies
   beyond ``t``. Where anchors disagree about ``h``, the lower one says more: the nearer to the mark, the faster.
3. The chance to meet as many rows beyond ``t`` as there are, if each were there with that share (binomial; averaged
   over what ``h`` may be by the rows seen, a gamma distribution), times the number of marks, is the p-value. The
   smallest over the anchors counts: they see much the same rows, and on exponential scores, where the bound of step 2
   is exact, fewer than 1 % of p-values are below 1 % so (none in 1,200 draws of 150, 1,000 and 5,000 rows).

Where poison is there, it also makes the rows between ``u`` and ``t`` more, and ``h`` lower, so that the test sees less
than there is: it errs towards silence. Where poison is most of the data it falls silent, for the anchors are then
among the poison: this is a search for rare rows. It cannot tell poison from other rows that do not belong, like wrong
labels that an annotator left; those are found, and rightly.

The premise must hold for the scale of the scores, so only methods that say so (``steady``) are asked: the loss, as log
odds. Shares of votes end at 1, EPIC's steps are few, and squared projections have heavy tails where features do: on the
first 5,000 rows of MNIST, with nothing planted, the test has p = 1e-4 for the scores of deep k-NN, and on those of the
five animals of CIFAR-10 5e-6 for EPIC's. Such methods rank and flag rows, and do not speak on the folder.

A folder is *suspect* where the p-value of a method that can tell, times the number of tests, is below 1 %. It is called
clean (*nothing found*) where no test says so, but the same tests, on the copies with planted poison, do: the method
would have noticed. Where they do not notice planted poison either, the scan *cannot tell*. Each kind of poison is
answered for on its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom, gamma

from mithridate.scan.methods import Floats

BODIES = (0.5, 0.2, 0.05)
"""Shares of the rows beyond the anchors."""
MARKS = (0.25, 0.5, 0.75)
"""Quantiles of planted scores at which rows are counted."""
GRID = 64
"""Points that stand for what the rate of thinning out may be."""
LEAST = 4
"""Rows beyond a mark that are taken for evidence: fewer are too easily a coincidence of labels."""
LEVEL = 0.01
"""Chance of calling a clean folder suspect."""


@dataclass(frozen=True, kw_only=True)
class Tail:
    """How many rows lie far out, and how many would if the tail thinned out evenly."""

    p: float
    """Chance of so many in clean data, at most."""
    beyond: int
    """Rows beyond the mark."""
    expected: float
    """Rows beyond the mark if the tail went on as it begins."""
    mark: float
    """The score counted from."""
    reach: float
    """Share of the planted rows beyond the mark."""

    @property
    def surplus(self) -> float:
        """How many rows like the planted ones there may be: the surplus beyond the mark over the share that reach."""
        return max(0.0, self.beyond - self.expected) / self.reach


def tail(scores: Floats, planted: Floats) -> Tail | None:
    """The test of ``scores`` ``(n,)`` at the marks of ``planted`` ``(m,)``; None where no mark lies beyond an anchor.

    NaN is left out. Of all pairs of anchor and mark, the one with the smallest p-value.
    """
    scores, planted = scores[~np.isnan(scores)], planted[~np.isnan(planted)]
    if not len(scores) or not len(planted):
        return None
    anchors = np.quantile(scores, [1 - body for body in BODIES]).tolist()
    marks = np.unique(np.quantile(planted, MARKS, method="lower")).tolist()
    pairs = [(anchor, mark) for anchor in anchors for mark in marks if mark > anchor]
    found = [_at(scores, planted, anchor, mark, len(marks)) for anchor, mark in pairs]
    return min(found, key=lambda each: each.p, default=None)


def _at(scores: Floats, planted: Floats, anchor: float, mark: float, marks: int) -> Tail:
    tail = scores[scores > anchor]
    beyond = int((tail >= mark).sum())
    exposure = float(np.minimum(tail, mark).sum() - anchor * len(tail))
    between = len(tail) - beyond
    expected, chance = float(len(tail)), 1.0
    if between:
        rates = gamma.ppf((np.arange(GRID) + 0.5) / GRID, between) / exposure
        chance = float(binom.sf(beyond - 1, len(tail), np.exp(-rates * (mark - anchor))).mean())
        expected = len(tail) * math.exp(-between / exposure * (mark - anchor))
    return Tail(
        p=min(1.0, marks * chance) if beyond >= LEAST else 1.0,
        beyond=beyond,
        expected=expected,
        mark=mark,
        reach=float((planted >= mark).mean()),
    )


def noticed(tails: Sequence[Tail | None], level: float = LEVEL) -> bool:
    """Whether planted poison is noticed in most of its copies."""
    return sum(each is not None and each.p < level for each in tails) * 2 > len(tails)
