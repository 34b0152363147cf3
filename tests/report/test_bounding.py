"""One-sided bounds by simulation, and how many trials would do."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from mithridate.intervals import bounds, exact
from mithridate.report.bounding import Bounded, lower, trials_by_spread, trials_to_pass, upper


def test_trials_by_spread_is_the_first_number_that_students_t_brings_near_enough() -> None:
    """Ten trials, standard error 0.02: at 95 % one-sided t is 1.833, so the bound lies 0.03666 away."""
    spread = 0.02 * np.sqrt(10)
    found = Bounded(mean=0.1, low=0.0, high=0.13666, trials=10, spread=float(spread))
    trials = trials_by_spread(found, 0.02, 0.0, confidence=0.95)
    assert trials is not None
    assert t.ppf(0.95, trials - 1) * spread / np.sqrt(trials) <= 0.02 + 1e-4
    assert t.ppf(0.95, trials - 2) * spread / np.sqrt(trials - 1) > 0.02 - 1e-4
    assert trials_by_spread(found, -0.01, 0.0, confidence=0.95) is None
    assert trials_by_spread(found, 0.02, 0.9, confidence=0.95) == 134  # 0.9 (1 - 0.05^(1/n)) <= 0.02
    there = "Student's bound is near enough with the trials at hand, so another one was what kept the gate shut"
    assert trials_by_spread(found, 0.05, 0.0, confidence=0.95) is None, there


@pytest.mark.parametrize(("trials", "victims"), [(20, 8), (20, 20), (60, 4)])
@pytest.mark.parametrize(("always", "else_"), [(0.052, 0.003), (0.04, 0.02), (0.0, 0.06)])
def test_bounds_of_several_victims_a_trial_err_no_more_often_than_they_say(
    trials: int, victims: int, always: float, else_: float
) -> None:
    """A share of targets is always hit, the others at a rate of their own; 10 000 runs by the gate's own bound."""
    source = np.random.default_rng([trials, victims])
    own = np.where(source.random((10_000, trials)) < always, 1.0, else_)
    means = source.binomial(victims, own).mean(1) / victims
    high = bounds(means, trials, confidence=0.9, method="exact")[1]
    assert (high < always + (1 - always) * else_).mean() <= 0.05


@pytest.mark.parametrize("trials", [2, 5, 10, 30, 60])
@pytest.mark.parametrize(("rare", "large"), [(0.1, 0.6), (0.02, 1.0), (0.5, 0.1)])
def test_rare_large_values_are_not_bounded_away(trials: int, rare: float, large: float) -> None:
    """Two trials of three show no large value at 0.1 a trial, and Student's bound then lies at the small ones."""
    source = np.random.default_rng([trials, round(100 * rare)])
    values = np.where(source.random((2000, trials)) < rare, large, 0.02) + source.normal(0, 0.001, (2000, trials))
    truth = rare * large + (1 - rare) * 0.02
    high = np.array([upper(list(each), 1.1, confidence=0.95) for each in values])
    low = np.array([lower(list(-each), -1.1, confidence=0.95) for each in values])
    assert (high < truth).mean() <= 0.055
    assert np.allclose(low, -high)
    if trials == 2:
        error = values.std(1, ddof=1) / np.sqrt(2)
        assert (values.mean(1) + t.ppf(0.95, 1) * error < truth).mean() > 0.2


def test_trials_to_pass_is_the_first_number_that_does() -> None:
    found = Bounded(mean=0.02, low=0.0, high=0.1, trials=50)
    trials = trials_to_pass(found, 0.05, confidence=0.95)
    assert trials is not None
    assert trials_to_pass(Bounded(mean=0.0, low=0.0, high=1.0, trials=1), 0.05, confidence=0.95) == 59
    assert trials_to_pass(Bounded(mean=0.06, low=0.0, high=1.0, trials=9), 0.05, confidence=0.95) is None


def test_of_hits_and_misses_the_bound_is_the_exact_one_and_of_parts_it_is_tighter() -> None:
    source = np.random.default_rng(0)
    for trials in (3, 10, 40):
        for hits in range(trials):
            values = [1.0] * hits + [0.0] * (trials - hits)
            assert upper(values, 1.0, confidence=0.95) == pytest.approx(exact(hits / trials, trials, confidence=0.9)[1])
        for _ in range(200):
            values = list(source.beta(0.2, 0.8, trials))
            assert upper(values, 1.0, confidence=0.95) <= exact(sum(values) / trials, trials, confidence=0.9)[1] + 1e-9
