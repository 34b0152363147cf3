"""Confidence sequences: against the closed form for hits, and their coverage over all moments to stop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import betaln

from mithridate.errors import ConfigError
from mithridate.sequential import blocks, confidence_sequence, narrow_enough, wealth_paths
from mithridate.stats import rate


def closed_form(hits: int, n: int) -> tuple[float, float]:
    """The beta-binomial mixture with Beta(1/2, 1/2), solved for wealth 20."""

    def excess(m: float) -> float:
        money = betaln(hits + 0.5, n - hits + 0.5) - betaln(0.5, 0.5)
        return float(money - hits * math.log(m) - (n - hits) * math.log1p(-m)) - math.log(20)

    mean, tiny = hits / n, 1e-9
    low = brentq(excess, tiny, min(mean, 1 - tiny)) if hits else 0.0
    return low, brentq(excess, max(mean, tiny), 1 - tiny) if hits < n else 1.0


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (0, 60), (3, 10), (20, 40), (57, 200), (200, 200)])
def test_of_hits_equals_the_beta_binomial_mixture(hits: int, n: int) -> None:
    found = confidence_sequence([1.0] * hits + [0.0] * (n - hits))
    assert (found.low, found.high) == pytest.approx(closed_form(hits, n), abs=2e-3)
    assert (found.mean, found.trials) == (hits / n, n)


def test_does_not_depend_on_the_order_of_trials() -> None:
    values = [0.0, 1.0, 0.5, 0.25, 1.0, 0.0, 0.75]
    one, other = confidence_sequence(values), confidence_sequence(values[::-1])
    assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=1e-9)


def test_is_wider_than_an_interval_for_one_look() -> None:
    hits = [1.0] * 18 + [0.0] * 22
    once = rate([[hit] for hit in hits])
    assert confidence_sequence(hits).width > once.high - once.low


def test_means_that_vary_less_than_hits_give_a_narrower_interval() -> None:
    shares = [0.3, 0.35, 0.4] * 10
    assert confidence_sequence(shares).width < confidence_sequence([1.0] * 10 + [0.0] * 20).width / 2


def test_holds_exactly_the_means_that_nobody_has_grown_rich_against() -> None:
    values = np.random.default_rng(0).choice([0.0, 0.5, 1.0], 30)
    found = confidence_sequence(values.tolist())
    for mean, inside in ((found.low - 1e-4, 0), (found.low + 1e-4, 1), (found.high - 1e-4, 1), (found.high + 1e-4, 0)):
        assert (wealth_paths(values[None], mean)[0, -1] < 20) == inside


@pytest.mark.parametrize(
    ("truth", "victims", "alike"), [(0.05, 1, 0), (0.4, 1, 0), (0.5, 1, 0), (0.4, 4, 2.0), (0.1, 3, 9.0)]
)
def test_keeps_its_coverage_over_all_moments_to_stop(truth: float, victims: int, alike: float) -> None:
    """10 000 paths of 200 trials, looked at after every one of them; clustered ones by the mean of their victims."""
    source = np.random.default_rng(5)
    own = source.beta(alike * truth, alike * (1 - truth), (10_000, 200)) if alike else truth
    values = source.binomial(victims, own, (10_000, 200)) / victims
    held = (wealth_paths(values, truth) < 20).all(1).mean()
    assert held >= 0.945


def test_stopping_at_a_narrow_fixed_interval_would_not_keep_it() -> None:
    """The test above can fail: Wilson's interval looked at after every trial misses far more often."""
    source = np.random.default_rng(5)
    values = source.binomial(1, 0.4, (2000, 200)).cumsum(1)
    n = np.arange(1, 201)
    mean, z = values / n, 1.959964
    centre, half = (
        (mean + z * z / (2 * n)) / (1 + z * z / n),
        z / (1 + z * z / n) * np.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n)),
    )
    assert (abs(centre - 0.4) <= half).all(1).mean() < 0.8


def test_narrow_enough_asks_every_cell() -> None:
    sure, unsure = [0.0] * 60, [1.0, 0.0] * 5
    assert narrow_enough([sure], 0.1)
    assert not narrow_enough([sure, unsure], 0.1)
    assert not narrow_enough([sure, []], 0.1)


def test_blocks_hold_every_trial_once_in_order() -> None:
    found = blocks(range(3, 15))
    assert [list(block) for block in found] == [[3, 4, 5, 6, 7], [8, 9, 10, 11, 12], [13, 14]]


@pytest.mark.parametrize("wrong", [[], [1.5], [0.2, -0.1], [math.nan]])
def test_refuses_what_is_no_share(wrong: list[float]) -> None:
    with pytest.raises(ConfigError):
        confidence_sequence(wrong)
