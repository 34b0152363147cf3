"""Exponents: of exact powers, and how wide the interval is where points lie off the line."""

from __future__ import annotations

import numpy as np
import pytest

from mithridate.bench.fit import fitted

SIZES = [100, 200, 400, 800, 1600]


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 2.5])
def test_exact_powers_are_found_exactly(exponent):
    found = fitted(SIZES, [0.003 * size**exponent for size in SIZES])
    assert found.exponent == pytest.approx(exponent, abs=1e-9)
    assert found.factor == pytest.approx(0.003)
    assert found.high - found.low < 1e-6


def test_interval_holds_the_truth_about_as_often_as_it_says():
    draws = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        costs = [0.1 * size**1.3 * np.exp(0.05 * draws.standard_normal()) for size in SIZES]
        found = fitted(SIZES, costs)
        hits += found.low <= 1.3 <= found.high
    assert 0.92 <= hits / 400 <= 0.98
