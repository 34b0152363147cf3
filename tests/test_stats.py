"""Intervals: Wilson's against SciPy's, clustering by hand and by simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import beta, binomtest, permutation_test

from mithridate.errors import ConfigError
from mithridate.stats import mean_interval, paired, rate, sign_flip, wilson


def effective(by_trial: list[list[float]]) -> float:
    """The number of victims that an interval was computed with, solved from its width."""
    found = rate(by_trial)
    low, high = 0.5, 1e6
    for _ in range(200):
        middle = math.sqrt(low * high)
        interval = wilson(found.mean, middle)
        low, high = (middle, high) if interval[1] - interval[0] > found.high - found.low else (low, middle)
    return low


class TestWilson:
    @pytest.mark.parametrize("n", [1, 2, 3, 7, 20, 100, 999])
    @pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
    def test_equals_scipy_at_whole_n(self, n: int, confidence: float) -> None:
        for hits in sorted({0, 1, n // 3, n - 1, n}):
            expected = binomtest(hits, n).proportion_ci(confidence_level=confidence, method="wilson")
            assert wilson(hits / n, n, confidence=confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)

    def test_at_other_n_lies_between_its_neighbours(self) -> None:
        for mean in (0.0, 0.25, 1.0):
            fewer, between, more = wilson(mean, 8), wilson(mean, 8.5), wilson(mean, 9)
            widths = [high - low for low, high in (fewer, between, more)]
            assert widths[0] > widths[1] > widths[2]
            assert (between[0] + between[1]) / 2 == pytest.approx(
                ((fewer[0] + fewer[1]) / 2 + (more[0] + more[1]) / 2) / 2, abs=1e-3
            )

    def test_formula_is_continuous_with_scipy(self) -> None:
        """The branch for other n, a hair from a whole one, agrees with SciPy there."""
        for hits, n in ((0, 5), (2, 5), (5, 5), (13, 40)):
            expected = binomtest(hits, n).proportion_ci(method="wilson")
            assert wilson(hits / n, n + 1e-9) == pytest.approx((expected.low, expected.high), abs=1e-7)

    def test_stays_within_zero_and_one(self) -> None:
        for n in (0.5, 1.5, 10.2):
            assert wilson(0.0, n)[0] == pytest.approx(0, abs=1e-12)
            assert wilson(1.0, n)[1] == pytest.approx(1, abs=1e-12)
            assert all(0 <= each <= 1 for mean in (0.0, 0.3, 1.0) for each in wilson(mean, n))


class TestRate:
    def test_of_one_victim_a_trial_is_plain_wilson(self) -> None:
        found = rate([[1.0], [0.0], [1.0], [1.0]])
        assert (found.low, found.high) == pytest.approx(wilson(0.75, 4))
        assert (found.mean, found.trials, found.victims, found.hits) == (0.75, 4, 4, 3)

    @pytest.mark.parametrize("value", [0.0, 1.0])
    def test_of_equal_values_counts_trials_alone(self, value: float) -> None:
        found = rate([[value] * 8] * 5)
        assert (found.low, found.high) == pytest.approx(wilson(value, 5))

    def test_of_a_single_trial_counts_it_once(self) -> None:
        found = rate([[1.0, 0.0, 1.0, 1.0]])
        assert (found.low, found.high) == pytest.approx(wilson(0.75, 1))

    def test_of_victims_that_always_agree_counts_trials_alone(self) -> None:
        assert effective([[1.0] * 4, [0.0] * 4, [1.0] * 4, [0.0] * 4, [1.0] * 4]) == pytest.approx(5, rel=1e-6)

    def test_of_victims_that_disagree_as_much_within_trials_counts_victims_less_what_few_trials_cost(self) -> None:
        """24 victims in 6 trials, no correlation, of which six trials show 25 / (25 + 8): 8/33 is left of it.

        So the design effect is 1 + 3 * 8/33; Student's t at 97.5 % is 2.068658 (23) and 2.570582 (5).
        """
        found = effective([[1.0, 0.0, 1.0, 0.0]] * 6)
        assert found == pytest.approx(24 / (1 + 3 * 8 / 33) * (2.068658 / 2.570582) ** 2, rel=1e-5)

    def test_by_hand(self) -> None:
        """Four times the trials [1,1], [0,0], [1,0]: K = 12, n = 24, mean 1/2.

        SSB = 2 * 8 * 1/4 = 4 over 11 degrees of freedom, SSW = 4 * 1/2 = 2 over 12; icc = (4/11 - 1/6) / (4/11 + 1/6)
        = 13/35. The hits are held by 12^2 / 20 = 7.2 trials, so of 22/35 they show 6.2^2 / (6.2^2 + 8); the design
        effect is 2 less that. t is 2.068658 (23) and 2.200985 (11).
        """
        found = rate([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]] * 4)
        design = 2 - 22 / 35 * 38.44 / 46.44
        expected = wilson(0.5, 24 / design * (2.068658 / 2.200985) ** 2)
        assert (found.low, found.high) == pytest.approx(expected, rel=1e-5)

    def test_of_few_trials_never_counts_fewer_than_there_are(self) -> None:
        found = rate([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]])  # 4 by the design effect, 1.4 by the correction
        assert (found.low, found.high) == pytest.approx(wilson(0.5, 3))

    def test_lies_between_counting_trials_and_counting_victims(self) -> None:
        draws = np.random.default_rng(0)
        for _ in range(50):
            trials = [
                list(map(float, draws.random(int(draws.integers(1, 6))) < draws.random()))
                for _ in range(int(draws.integers(2, 9)))
            ]
            found = rate(trials)
            widest, narrowest = wilson(found.mean, found.trials), wilson(found.mean, found.victims)
            width = found.high - found.low
            assert widest[1] - widest[0] + 1e-9 >= width >= narrowest[1] - narrowest[0] - 1e-9

    def test_ignores_the_order_of_trials_and_victims(self) -> None:
        one, other = rate([[1.0, 0.0, 0.0], [1.0], [0.0, 1.0]]), rate([[1.0, 0.0], [0.0, 0.0, 1.0], [1.0]])
        assert (one.mean, one.low, one.high) == pytest.approx((other.mean, other.low, other.high))

    @pytest.mark.parametrize(("trials", "victims", "alike"), [(10, 4, 1.0), (10, 2, 4.0), (20, 8, 0.5), (40, 3, 100.0)])
    def test_covers_the_truth_as_often_as_it_says(self, trials: int, victims: int, alike: float) -> None:
        """Beta-binomial data: each trial has a rate of its own, drawn around the true one; ``alike`` sets how near."""
        draws = np.random.default_rng(7)
        truth, covered, runs = 0.4, 0, 1000
        own = draws.beta(alike * truth, alike * (1 - truth), (runs, trials))
        hits = draws.random((runs, trials, victims)) < own[:, :, None]
        for run in hits:
            found = rate([list(map(float, trial)) for trial in run])
            covered += found.low <= truth <= found.high
        assert covered / runs >= 0.93

    def test_ignoring_the_clusters_would_cover_too_rarely(self) -> None:
        """The test above can fail: plain Wilson over all victims does."""
        draws = np.random.default_rng(7)
        own = draws.beta(0.4, 0.6, (1000, 10))
        means = (draws.random((1000, 10, 4)) < own[:, :, None]).mean((1, 2))
        covered = np.mean([wilson(mean, 40)[0] <= 0.4 <= wilson(mean, 40)[1] for mean in means])
        assert covered < 0.85

    @pytest.mark.parametrize(
        "wrong", [[], [[]], [[], []], [[1.5]], [[0.5], [-0.1]], [[float("nan")]], [[1.0, math.nan]]]
    )
    def test_refuses_what_is_no_rate(self, wrong: list[list[float]]) -> None:
        with pytest.raises(ConfigError):
            rate(wrong)

    def test_leaves_trials_without_victims_out(self) -> None:
        assert rate([[], [1.0], [0.0]]) == rate([[1.0], [0.0]])


class TestMeanInterval:
    def test_by_hand(self) -> None:
        """1, 2, 3: mean 2, standard error 1/sqrt(3), t(2) at 97.5 % is 4.302653."""
        found = mean_interval([1.0, 2.0, 3.0])
        half = 4.3026527 / math.sqrt(3)
        assert (found.low, found.mean, found.high) == pytest.approx((2 - half, 2, 2 + half), rel=1e-6)

    def test_of_one_value_is_that_value(self) -> None:
        found = mean_interval([0.7])
        assert (found.low, found.mean, found.high, found.trials) == (0.7, 0.7, 0.7, 1)

    def test_of_nothing_is_refused(self) -> None:
        with pytest.raises(ConfigError):
            mean_interval([])


class TestPaired:
    def test_by_hand(self) -> None:
        """Five trials hit against five missed, one victim each: Wilson's bounds at 5 of 5 and 0 of 5 are 1/(1+z^2/5).

        z^2/5 = 0.768292, so each rate may be off by 0.434482; nothing varies, so nothing is known of the correlation.
        """
        found = paired([[0.0]] * 5, [[1.0]] * 5)
        assert (found.mean, found.low, found.trials) == (-1, -1, 5)
        assert found.high == pytest.approx(-1 + math.sqrt(2) * 0.434482, abs=1e-6)
        assert found.chance == 1 / 32
        assert found.below
        assert not found.above

    def test_four_trials_are_never_clear(self) -> None:
        found = paired([[0.0, 0.0]] * 4, [[1.0, 1.0]] * 4)
        assert found.chance == 1 / 16
        assert not found.below

    def test_the_other_way_round_is_the_same_with_the_other_sign(self) -> None:
        one, two = [[1.0, 0.0], [1.0], [0.5, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.0], [0.5, 0.0], [1.0, 0.0]]
        there, back = paired(one, two), paired(two, one)
        assert (back.mean, back.low, back.high) == pytest.approx((-there.mean, -there.high, -there.low))
        assert back.chance == there.chance

    def test_trials_that_agree_make_it_surer_and_never_surer_than_their_correlation_allows(self) -> None:
        """9 hits and 6 hits of 12: in the same trials, or in as different ones as there are."""
        many = [[1.0]] * 9 + [[0.0]] * 3
        same = [[1.0]] * 6 + [[0.0]] * 6
        surer, less = paired(same, many), paired(same[::-1], many)
        assert surer.mean == less.mean == pytest.approx(-0.25)
        assert surer.high - surer.low < less.high - less.low
        one, two = rate(same), rate(many)
        r = 1 / math.sqrt(3) - 1 / math.sqrt(12)  # phi of the table 6, 3, 0, 3 is 18 / sqrt(36 * 27)
        half = math.sqrt(
            (one.high - one.mean) ** 2
            + (two.mean - two.low) ** 2
            - 2 * r * (one.high - one.mean) * (two.mean - two.low)
        )
        assert surer.high == pytest.approx(-0.25 + half)

    def test_equal_rates_are_not_clear(self) -> None:
        found = paired([[1.0], [0.0], [1.0]], [[1.0], [0.0], [1.0]])
        assert (found.mean, found.chance) == (0, 1)
        assert found.low < 0 < found.high
        assert not found.below

    @pytest.mark.parametrize("count", [1, 2, 5, 9])
    def test_chance_counts_every_way_to_swap(self, count: int) -> None:
        draws = np.random.default_rng(count)
        differences = [float(each) for each in draws.integers(-4, 5, count) / 4]
        sums = [
            sum(sign * each for sign, each in zip(signs, differences, strict=True))
            for signs in itertools.product((1, -1), repeat=count)
        ]
        expected = sum(each >= abs(sum(differences)) - 1e-9 for each in sums) / 2**count
        assert sign_flip(differences) == pytest.approx(expected, abs=1e-12)

    def test_chance_equals_scipys_exact_test(self) -> None:
        one, two = np.array([0.0, 0.5, 0, 0, 1, 0.5, 0]), np.array([1.0, 1, 0.5, 1, 0.5, 1, 1])
        options = {"permutation_type": "samples", "alternative": "less", "n_resamples": np.inf, "vectorized": False}
        expected = permutation_test((one, two), lambda x, y: (x - y).mean(), **options).pvalue
        found = paired([[value] for value in one], [[value] for value in two])
        assert found.chance == pytest.approx(expected)

    def test_a_hundred_trials_are_no_trouble(self) -> None:
        assert sign_flip([0.5] * 100) == pytest.approx(0.5**100)
        assert sign_flip([0.5, -0.5] * 50) == pytest.approx(0.5 + math.comb(100, 50) / 2**101)

    @pytest.mark.parametrize(("first", "second", "alike"), [(0.7, 0.12, 1.0), (0.9, 0.5, 1.0), (0.6, 0.6, 4.0)])
    def test_covers_the_truth_and_rarely_calls_equals_different(
        self, first: float, second: float, alike: float
    ) -> None:
        """Ten trials of two victims; a trial that is hard for one defense is as hard for the other."""
        draws = np.random.default_rng(3)
        hard, runs = draws.random((300, 10)), 300
        own = [_beta_at(hard, rate, alike) for rate in (first, second)]
        hits = [(draws.random((runs, 10, 2)) < each[:, :, None]).astype(float) for each in own]
        found = [paired(one.tolist(), two.tolist()) for one, two in zip(*hits, strict=True)]
        truth = first - second
        assert np.mean([each.low <= truth <= each.high for each in found]) >= 0.93
        if truth == 0:
            assert np.mean([each.below or each.above for each in found]) <= 0.05

    @pytest.mark.parametrize(("one", "two"), [([], []), ([[1.0]], [[1.0], [0.0]]), ([[1.0], []], [[1.0], [0.0]])])
    def test_refuses_trials_that_do_not_match(self, one: list[list[float]], two: list[list[float]]) -> None:
        with pytest.raises(ConfigError, match="same trials"):
            paired(one, two)


def _beta_at(quantiles: np.ndarray, mean: float, alike: float) -> np.ndarray:
    """Quantiles of the beta distribution with that mean."""
    return np.asarray(beta.ppf(quantiles, alike * mean, alike * (1 - mean)))
