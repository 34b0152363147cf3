"""The test behind the verdict: how often it is wrong on clean scores, and how much poison it needs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, gamma

from mithridate.scan.tails import GRID, LEVEL, noticed, tail


def clean(kind: str, rows: int, draws: np.random.Generator) -> np.ndarray:
    """Scores of clean rows, by distributions whose tails thin out at least evenly."""
    return {
        "normal": lambda: draws.normal(-4, 2.5, rows),
        "logistic": lambda: draws.logistic(-4, 1.5, rows),
        "exponential": lambda: draws.exponential(1.0, rows),
        "uniform": lambda: draws.uniform(-5, 5, rows),
    }[kind]()


@pytest.mark.parametrize("rows", [150, 1000, 5000])
@pytest.mark.parametrize("kind", ["normal", "logistic", "exponential", "uniform"])
def test_calls_clean_scores_suspect_in_one_case_of_a_hundred_at_most(kind: str, rows: int) -> None:
    draws = np.random.default_rng(1)
    wrong = sum(
        (found := tail(clean(kind, rows, draws), draws.normal(3, 3, 25))) is not None and found.p < LEVEL
        for _ in range(60)
    )
    assert wrong <= 3, "0.3 % of binomial(60, 1 %) are more"


@pytest.mark.parametrize(("rows", "poison"), [(5000, 20), (5000, 500), (5000, 1000), (1000, 15), (50_000, 100)])
def test_notices_rows_as_far_out_as_the_planted_ones(rows: int, poison: int) -> None:
    draws = np.random.default_rng(2)
    estimates = []
    for _ in range(8):
        scores = np.concatenate([draws.normal(-5, 2, rows - poison), draws.normal(6, 2, poison)])
        found = tail(scores, draws.normal(6, 2, 25))
        if found is not None and found.p < LEVEL:
            estimates.append(found.surplus / poison)
    assert len(estimates) >= 7
    assert 0.1 < np.mean(estimates) < 1.5, "errs towards silence"


def test_is_silent_where_planted_rows_lie_among_the_others() -> None:
    draws = np.random.default_rng(3)
    assert tail(draws.normal(0, 1, 1000), draws.normal(-2, 0.1, 25)) is None
    found = tail(draws.normal(0, 1, 1000), draws.normal(0.5, 1, 25))
    assert found is None or found.p > LEVEL


def test_equals_the_rule_written_out() -> None:
    draws = np.random.default_rng(4)
    scores, planted = draws.normal(0, 1, 400), np.linspace(2.8, 4.0, 20)
    scores[:6] = [3.5, 3.6, 3.7, 3.8, 3.9, 4.1]
    marks = [sorted(planted)[math.floor(share * 19)] for share in (0.25, 0.5, 0.75)]
    scores[6] = marks[1]  # a row at a mark is beyond it
    chances = []
    for body in (0.5, 0.2, 0.05):
        anchor = np.quantile(scores, 1 - body)
        for mark in marks:
            beyond = [s for s in scores if s >= mark]
            between = [s for s in scores if anchor < s < mark]
            exposure = sum(s - anchor for s in between) + len(beyond) * (mark - anchor)
            rates = [gamma.ppf((k + 0.5) / GRID, len(between)) / exposure for k in range(GRID)]
            odds = [
                binom.sf(len(beyond) - 1, len(between) + len(beyond), math.exp(-r * (mark - anchor))) for r in rates
            ]
            chances.append(3 * float(np.mean(odds)) if len(beyond) >= 4 else 1.0)
    found = tail(scores, planted)
    assert found is not None
    assert found.p == pytest.approx(min(1.0, *chances))
    assert found.p < 0.5


def test_does_not_depend_on_unit_and_origin_of_the_scores() -> None:
    draws = np.random.default_rng(5)
    scores, planted = np.append(draws.normal(0, 1, 500), [5.0] * 6), draws.normal(5, 1, 25)
    one, other = tail(scores, planted), tail(3 * scores + 7, 3 * planted + 7)
    assert one is not None
    assert other is not None
    assert other.p == pytest.approx(one.p)
    assert (other.beyond, other.reach) == (one.beyond, one.reach)


def test_three_odd_rows_are_no_evidence() -> None:
    scores = np.append(np.linspace(-5, 0, 1000), [50.0] * 3)
    found = tail(scores, np.full(25, 40.0))
    assert found is not None
    assert (found.beyond, found.p) == (3, 1.0)
    again = tail(np.append(scores, 50.0), np.full(25, 40.0))
    assert again is not None
    assert again.p < LEVEL


def test_leaves_out_rows_that_were_not_looked_at() -> None:
    draws = np.random.default_rng(6)
    scores, planted = np.append(draws.normal(0, 1, 300), [6.0] * 5), draws.normal(5, 1, 25)
    assert tail(np.append(scores, [np.nan] * 99), np.append(planted, np.nan)) == tail(scores, planted)
    assert tail(np.full(9, np.nan), planted) is None


def test_is_noticed_where_most_copies_say_so() -> None:
    draws = np.random.default_rng(7)
    yes = tail(np.append(draws.normal(0, 1, 300), [9.0] * 8), np.full(25, 8.0))
    assert yes is not None
    assert noticed([yes, yes, None])
    assert not noticed([yes, None])
    assert not noticed([])
    assert not noticed([yes], level=0.0)
