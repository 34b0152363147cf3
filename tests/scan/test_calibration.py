"""Recall and false alarms on planted rows, against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from mithridate.scan.calibration import TOGETHER, Copy, above, measured, share, threshold
from mithridate.seeding import Seed


@given(
    values=st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, float("nan")]), min_size=1, max_size=40),
    rate=st.floats(0.001, 0.49),
)
def test_threshold_is_the_lowest_score_that_few_enough_exceed(values: list[float], rate: float) -> None:
    known = [-np.inf if np.isnan(each) else each for each in values]
    allowed = int(rate * len(known) + 1e-9)
    right = min(each for each in known if sum(other > each for other in known) <= allowed)
    assert threshold(np.array(values), rate) == right


def test_rows_not_looked_at_are_never_found() -> None:
    assert above(np.array([np.nan, 1.0, 3.0]), 2.0).tolist() == [False, False, True]
    assert above(np.array([np.nan]), -np.inf).tolist() == [False]


def copy(rows: int, planted: int, draws: np.random.Generator, lift: float, **more: np.ndarray) -> Copy:
    """Scores of which the first ``planted`` are lifted."""
    scores = draws.normal(0, 1, rows)
    scores[:planted] += lift
    return Copy(scores={"good": scores, **more}, rows={"odd": np.arange(planted)})


def test_counts_planted_rows_above_and_others_above() -> None:
    draws = np.random.default_rng(0)
    one = copy(2000, 25, draws, lift=50.0)
    (found, *_) = measured([one], rate=0.02, seed=Seed(0))
    assert (found.method, found.kind, found.recall.hits, found.recall.total) == ("good", "odd", 25, 25)
    assert found.alarms.total == 1975
    assert found.alarms.mean == pytest.approx(0.02, abs=0.008)
    assert found.able
    exact = binomtest(25, 25).proportion_ci(method="wilson")
    assert (found.recall.low, found.recall.high) == pytest.approx((exact.low, exact.high))


def test_false_alarms_are_those_of_rows_that_did_not_set_the_threshold() -> None:
    rates = [
        measured([copy(300, 5, np.random.default_rng(k), lift=0.0)], rate=0.01, seed=Seed(k))[0].alarms.mean
        for k in range(300)
    ]
    assert len(set(rates)) > 3, "a threshold tried on the rows that set it always has the same rate"
    assert np.mean(rates) == pytest.approx(2 / 148, rel=0.15), "the second of 147 is exceeded by 2 of 148 on average"


def test_a_method_that_draws_lots_cannot_tell() -> None:
    believed = 0
    for k in range(60):
        draws = np.random.default_rng(k)
        lots = Copy(
            scores={f"method {m}": draws.normal(0, 1, 1000) for m in range(5)},
            rows={kind: np.arange(25) + 25 * n for n, kind in enumerate(("a", "b", "c"))},
        )
        believed += any(each.able for each in measured([lots], rate=0.01, seed=Seed(k)))
    assert believed <= 3, "1 % of 60, and luck"


def test_intervals_alone_are_not_enough() -> None:
    draws = np.random.default_rng(1)
    scores = draws.normal(0, 1, 5000)
    scores[:2], scores[2:25] = 99.0, -99.0
    lucky = Copy(scores={f"m{k}": scores for k in range(5)}, rows={kind: np.arange(25) for kind in "abc"})
    found = measured([lucky], rate=0.01, seed=Seed(0))[0]
    assert found.recall.hits == 2
    assert found.recall.low > found.alarms.high
    assert not found.able


def test_copies_are_pooled_and_their_other_rows_counted_once() -> None:
    draws = np.random.default_rng(2)
    copies = [copy(400, 8, draws, lift=lift) for lift in (50.0, 50.0, -50.0)]
    found = measured(copies, rate=0.05, seed=Seed(0))[0]
    assert (found.recall.hits, found.recall.total) == (16, 24)
    assert found.alarms.total == 392
    assert found.alarms.mean == pytest.approx(0.05, abs=0.02)


def test_together_they_find_what_any_able_one_finds() -> None:
    draws = np.random.default_rng(3)
    first, second, lots = draws.normal(0, 1, (3, 2000))
    first[:15], second[10:25], lots[:25] = 50.0, 50.0, draws.normal(0, 1, 25)
    both = Copy(scores={"first": first, "second": second, "lots": lots}, rows={"odd": np.arange(25)})
    found = {each.method: each for each in measured([both], rate=0.01, seed=Seed(0))}
    assert found[TOGETHER].recall.hits == 25
    assert not found["lots"].able
    assert found[TOGETHER].alarms.hits <= found["first"].alarms.hits + found["second"].alarms.hits
    assert TOGETHER not in {each.method for each in measured([copy(500, 9, draws, 0.0)], rate=0.01, seed=Seed(0))}


def test_share_is_hits_of_total() -> None:
    assert share(3, 12).mean == 0.25
