"""Intervals of proportions against SciPy's, and the worth of clustered values by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from mithridate.intervals import bounds, effective, exact, intraclass_correlation, sizes_to_bound, wilson
from mithridate.stats import rate, rates, worth_of


@pytest.mark.parametrize("n", [1, 2, 3, 7, 20, 100, 999])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_exact_equals_scipy_at_whole_n(n: int, confidence: float) -> None:
    for hits in sorted({0, 1, n // 3, n - 1, n}):
        expected = binomtest(hits, n).proportion_ci(confidence_level=confidence)
        assert exact(hits / n, n, confidence=confidence) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_exact_at_other_n_lies_between_its_neighbours() -> None:
    for mean in (0.0, 0.25, 1.0):
        widths = [high - low for low, high in (exact(mean, n) for n in (8, 8.5, 9))]
        assert widths[0] > widths[1] > widths[2]


def test_exact_is_wider_than_wilsons_on_the_side_of_caution() -> None:
    """Without a hit in 59 the exact one-sided bound at 95 % is the rule of three's 5 %; Wilson's lies below."""
    assert exact(0.0, 59, confidence=0.9)[1] == pytest.approx(1 - 0.05 ** (1 / 59))
    assert wilson(0.0, 59, confidence=0.9)[1] < exact(0.0, 59, confidence=0.9)[1]


@pytest.mark.parametrize(("limit", "confidence", "size"), [(0.05, 0.95, 59), (0.01, 0.95, 299), (0.5, 0.5, 1)])
def test_sizes_to_bound_is_the_first_that_does(limit: float, confidence: float, size: int) -> None:
    assert sizes_to_bound(limit, confidence=confidence) == size
    one_sided = 2 * confidence - 1
    assert exact(0.0, size, confidence=one_sided)[1] <= limit + 1e-9
    if size > 1:
        assert exact(0.0, size - 1, confidence=one_sided)[1] > limit


def test_many_at_once_equal_one_at_a_time() -> None:
    source = np.random.default_rng(0)
    values = source.integers(0, 2, (20, 6, 3)).astype(float)
    for method in ("wilson", "exact"):
        mean, low, high = rates(values, method=method)
        for k, sample in enumerate(values):
            found = rate(sample.tolist(), method=method)
            assert (mean[k], low[k], high[k]) == pytest.approx((found.mean, found.low, found.high), abs=1e-12)


def test_intraclass_correlation_by_hand() -> None:
    """[1,1], [0,0], [1,0] four times: between 4/11, within 1/6, so (4/11 - 1/6) / (4/11 + 1/6) = 13/35."""
    sums, sizes = np.array([2.0, 0.0, 1.0] * 4), np.full(12, 2.0)
    assert float(intraclass_correlation(sums, sums, sizes)) == pytest.approx(13 / 35)


def test_unequal_clusters_count_for_less_than_their_victims_where_they_agree_within() -> None:
    by_trial = [[1.0] * 5, [0.0] * 2, [1.0] * 3, [0.0]]
    assert worth_of(by_trial) == pytest.approx(4)
    sums, sizes = np.array([5.0, 0.0, 3.0, 0.0]), np.array([5.0, 2.0, 3.0, 1.0])
    assert float(effective(sums, sums, sizes)) == pytest.approx(4)


def test_clustered_intervals_are_wider_than_naive_where_trials_differ() -> None:
    differ = [[1.0] * 4, [0.0] * 4, [1.0, 1.0, 1.0, 0.0], [0.0] * 4, [1.0] * 4]
    values = [value for trial in differ for value in trial]
    for method, plain in (("wilson", wilson), ("exact", exact)):
        found = rate(differ, method=method)  # type: ignore[arg-type]
        low, high = plain(sum(values) / 20, 20)
        assert found.high - found.low > 1.4 * (high - low)


def test_bounds_take_any_shapes_that_fit() -> None:
    low, high = bounds(np.array([[0.0], [0.5]]), np.array([5.0, 10.0, 20.0]))
    assert low.shape == high.shape == (2, 3)
    assert low[0].tolist() == [0, 0, 0]
