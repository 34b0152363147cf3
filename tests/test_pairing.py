"""Pairs against slow oracles: McNemar by summing the binomial, Holm by its steps, the bootstrap against SciPy's."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import fisher_exact

from mithridate import pairing
from mithridate.errors import ConfigError
from mithridate.pairing import bootstrap, chance_of_split, holm, mcnemar, unpaired


def test_mcnemar_by_hand() -> None:
    """8 trials hit without a defense alone, 1 with it alone: 2 * (1 + 9) / 2^9."""
    first = [0.0] * 8 + [1.0] + [1.0] * 5
    second = [1.0] * 8 + [0.0] + [1.0] * 5
    found = mcnemar(first, second)
    assert (found.first_only, found.second_only) == (1, 8)
    assert found.chance == pytest.approx(20 / 512)


def test_mcnemar_is_the_same_the_other_way_round() -> None:
    first, second = [1.0, 0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0, 1.0]
    assert mcnemar(first, second).chance == mcnemar(second, first).chance


def test_mcnemar_of_trials_that_all_agree_tells_nothing() -> None:
    assert mcnemar([1.0, 0.0], [1.0, 0.0]).chance == 1


@pytest.mark.parametrize(("one", "total"), [(0, 6), (1, 7), (3, 6), (4, 4), (0, 0)])
def test_chance_of_a_split_counts_every_toss(one: int, total: int) -> None:
    fewer = min(one, total - one)
    expected = min(1.0, 2 * sum(math.comb(total, k) for k in range(fewer + 1)) / 2**total)
    assert float(chance_of_split(np.array(one), np.array(total))) == pytest.approx(expected)
    hits = [1.0] * one + [0.0] * (total - one)
    if total:
        assert mcnemar(hits, [1 - hit for hit in hits]).chance == pytest.approx(expected)


@pytest.mark.parametrize(("one", "two"), [([], []), ([1.0], [1.0, 0.0])])
def test_mcnemar_refuses_trials_that_do_not_match(one: list[float], two: list[float]) -> None:
    with pytest.raises(ConfigError, match="same trials"):
        mcnemar(one, two)


def test_mcnemar_refuses_shares() -> None:
    with pytest.raises(ConfigError, match=r"hits of 0 or 1, one a trial, but got 0\.5"):
        mcnemar([0.5], [1.0])


class TestHolm:
    def test_by_hand(self) -> None:
        """Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.04, and none less than one before it."""
        assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])

    def test_of_one_changes_nothing(self) -> None:
        assert holm([0.03]) == [0.03]
        assert holm([]) == []

    def test_never_exceeds_one(self) -> None:
        assert holm([0.5, 0.9, 0.7]) == [1, 1, 1]

    def test_calls_clear_what_the_step_down_test_rejects(self) -> None:
        source = np.random.default_rng(0)
        for _ in range(200):
            chances = (source.random(6) ** 3).tolist()
            rejected, left = set(), sorted(range(6), key=lambda k: chances[k])
            while left and chances[left[0]] <= 0.05 / len(left):
                rejected.add(left.pop(0))
            assert {k for k, p in enumerate(holm(chances)) if p <= 0.05} == rejected

    def test_keeps_wrong_calls_at_one_in_twenty_where_single_tests_do_not(self) -> None:
        chances = np.random.default_rng(1).random((4000, 8))
        assert np.mean([min(holm(row.tolist())) <= 0.05 for row in chances]) <= 0.06
        assert np.mean(chances.min(1) <= 0.05) > 0.25


class TestBootstrap:
    def test_agrees_with_scipys_bca(self) -> None:
        gaps = np.random.default_rng(0).choice([-1.0, 0, 0, 1, 1], 40)
        found = bootstrap(gaps.tolist(), seed=1)
        expected = scipy_bootstrap((gaps,), np.mean, n_resamples=10_000, method="BCa", rng=np.random.default_rng(2))
        interval = expected.confidence_interval
        assert found.method == "bca"
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=0.03)

    def test_corrects_for_skew_as_scipys_does(self) -> None:
        """Two trials of fifteen lie far off: the upper bound moves outwards by more than the draws' noise."""
        gaps = np.array([0.0] * 10 + [0.1, 0.2, 0.3, 0.9, 1.0])
        found = bootstrap(gaps.tolist(), seed=1)
        draw = {"n_resamples": 10_000, "rng": np.random.default_rng(2)}
        bca, percentile = (
            scipy_bootstrap((gaps,), np.mean, method=method, **draw).confidence_interval
            for method in ("BCa", "percentile")
        )
        assert (found.low, found.high) == pytest.approx((bca.low, bca.high), abs=0.02)
        assert found.high > percentile.high + 0.03

    def test_is_the_same_for_the_same_seed(self) -> None:
        gaps = [1.0, 0.0, -1.0, 1.0, 0.5, 0.25]
        assert bootstrap(gaps, seed=3) == bootstrap(gaps, seed=3)
        assert bootstrap(gaps, seed=3, draws=100) != bootstrap(gaps, seed=4, draws=100)

    def test_of_trials_that_agree_says_that_it_is_none(self) -> None:
        found = bootstrap([0.5] * 4, seed=0)
        assert (found.method, found.low, found.high) == ("none", 0.5, 0.5)

    def test_of_nothing_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="at least one trial"):
            bootstrap([], seed=0)


class TestUnpaired:
    def test_of_single_hits_is_fishers_test(self) -> None:
        found = unpaired([[1.0]] * 9 + [[0.0]], [[1.0]] * 2 + [[0.0]] * 10)
        assert found.chance == pytest.approx(fisher_exact([[9, 1], [2, 10]]).pvalue)
        assert found.mean == pytest.approx(0.9 - 2 / 12)
        assert found.low < found.mean < found.high

    def test_of_clusters_permutes_trials_and_not_victims(self) -> None:
        """Three trials against three can be told apart by no test of trials: 2 of the 20 ways are as far."""
        found = unpaired([[1.0] * 8] * 3, [[0.0] * 8] * 3)
        assert found.chance == pytest.approx(0.1, abs=0.01)

    def test_covers_the_difference_of_independent_rates(self) -> None:
        source = np.random.default_rng(2)
        held = []
        for _ in range(1500):
            one, two = (source.random((n, 1)) < rate for n, rate in ((20, 0.5), (30, 0.2)))
            found = unpaired(one.astype(float).tolist(), two.astype(float).tolist())
            held.append(found.low <= 0.3 <= found.high)
        assert np.mean(held) >= 0.93


def test_a_bootstrap_of_many_trials_draws_from_the_same_distribution() -> None:
    values = np.random.default_rng(3).choice([-1.0, -0.5, 0.0, 0.5, 1.0], size=400, p=[0.3, 0.2, 0.2, 0.2, 0.1])
    found = bootstrap(values.tolist(), seed=0)
    picks = np.random.default_rng(1).integers(400, size=(20_000, 400))
    low, high = np.quantile(values[picks].mean(1), [0.025, 0.975])  # hardly skewed: BCa is near the percentiles
    assert (found.low, found.high) == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))
    assert found.method == "bca"


class TestVeryManyTrials:
    """Neither the bootstrap nor the permutation may hold all draws of all trials at once."""

    def test_what_is_drawn_does_not_depend_on_how_much_at_a_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        values = np.random.default_rng(1).random((2, 60, 3)).tolist()
        gaps = [sum(a) / 3 - sum(b) / 3 for a, b in zip(*values, strict=True)]
        whole = bootstrap(gaps, seed=0), unpaired(*values)
        monkeypatch.setattr(pairing, "_ROOM", 1000)
        assert (bootstrap(gaps, seed=0), unpaired(*values)) == whole

    def test_memory_is_bounded(self) -> None:
        """1000 draws of 20 000 trials are 160 MB of values, and as much of their places."""
        values = np.random.default_rng(1).random((2, 20_000))
        tracemalloc.start()
        try:
            bootstrap((values[0] - values[1]).tolist(), seed=0, draws=1000)
            assert tracemalloc.get_traced_memory()[1] < 8e7
        finally:
            tracemalloc.stop()
