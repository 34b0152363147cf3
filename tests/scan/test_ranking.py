"""The one list, against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mithridate.scan.calibration import Copy, Measured, share
from mithridate.scan.ranking import evidence, planted_shares, ranked, tail_shares
from mithridate.stats import wilson

SCORES = st.lists(st.sampled_from([0.0, 1.0, 2.0, float("nan")]), min_size=1, max_size=20)


def low(value: float) -> float:
    return -np.inf if np.isnan(value) else value


@given(SCORES)
def test_tail_share_is_the_share_of_rows_as_high(values: list[float]) -> None:
    right = [sum(low(other) >= low(each) for other in values) / len(values) for each in values]
    assert tail_shares(np.array(values)).tolist() == pytest.approx(right)


@given(SCORES, SCORES)
def test_among_others_a_row_counts_itself(values: list[float], others: list[float]) -> None:
    right = [(1 + sum(low(other) >= low(each) for other in others)) / (1 + len(others)) for each in values]
    assert tail_shares(np.array(values), np.array(others)).tolist() == pytest.approx(right)


def test_evidence_is_the_best_bound_at_this_share_or_beyond() -> None:
    planted = np.array([0.01, 0.02, 0.5])
    bounds = [wilson(k / 3, 3)[0] / q for k, q in ((1, 0.01), (2, 0.02), (3, 0.5))]
    found = evidence(np.array([0.001, 0.01, 0.015, 0.02, 0.3, 0.5, 0.6]), planted)
    right = [max(bounds)] * 2 + [max(bounds[1:])] * 2 + [bounds[2]] * 2 + [0.0]
    assert found.tolist() == pytest.approx(right)


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=30))
def test_evidence_never_rises_with_the_share(planted: list[float]) -> None:
    found = evidence(np.linspace(0.0005, 1, 60), np.array(planted))
    assert (np.diff(found) <= 0).all()


def able(method: str, kind: str = "odd") -> Measured:
    return Measured(method=method, kind=kind, recall=share(9, 10), alarms=share(1, 100), tries=1)


def copies(**methods: float) -> list[Copy]:
    """A copy in which each method lifts the planted rows by so much above others at 0..89."""
    scores = {name: np.append(np.full(10, lift), np.arange(90.0)) for name, lift in methods.items()}
    return [Copy(scores=scores, rows={"odd": np.arange(10)})]


def test_planted_rows_are_placed_among_the_rows_nobody_planted() -> None:
    assert planted_shares(copies(good=100.0), "good", "odd").tolist() == [1 / 91] * 10
    assert planted_shares(copies(good=44.5), "good", "odd").tolist() == pytest.approx([46 / 91] * 10)


def test_one_sure_method_is_enough() -> None:
    sure, weak = np.arange(200.0), np.arange(200.0)
    sure[3] = 999.0
    order, found = ranked({"sure": sure, "weak": weak}, copies(sure=100.0, weak=60.0), [able("sure"), able("weak")])
    assert order[0] == 3
    assert found[3] == found.max()


def test_methods_that_cannot_tell_have_no_part() -> None:
    good, bad = np.arange(20.0), -np.arange(20.0)
    order, _ = ranked({"good": good, "bad": bad}, copies(good=100.0, bad=0.0), [able("good")])
    assert order.tolist() == list(range(19, -1, -1))


def test_among_equal_evidence_the_row_farther_out_comes_first() -> None:
    scores = np.arange(1000.0)
    order, found = ranked({"good": scores}, copies(good=100.0), [able("good")])
    assert found[-1] == found[-5], "both lie farther out than every planted row"
    assert order[:5].tolist() == [999, 998, 997, 996, 995]


def test_where_no_method_can_tell_the_product_of_shares_decides() -> None:
    one, two = np.array([3.0, 2.0, 1.0, 0.0]), np.array([0.0, 3.0, 2.0, 1.0])
    order, found = ranked({"one": one, "two": two}, copies(one=0.0, two=0.0), [])
    assert order.tolist() == [1, 0, 2, 3], "products of shares in quarters: 4, 2, 6, 12"
    assert not found.any()
