"""Promises of means of test rows and their differences, against SciPy and cases solved by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from mithridate.report.load import Victim, read
from mithridate.report.means import average, gap
from mithridate.report.words import points, with_interval
from mithridate.store import Store
from tests.report.fabricate_degrade import add_victim, settings


def victims(folder: Path, rates: Sequence[Sequence[float]], *, attack: str = "", shared: bool = False) -> list[Victim]:
    """Victims with these rates, by trial and run."""
    with Store(folder, create=True) as store:
        store.describe(experiment=settings(kind="generic"))
        for trial, runs in enumerate(rates):
            for run, rate in enumerate(runs):
                add_victim(store, attack, trial=trial, run=run, rate=rate, success=rate, shared=shared)
    return list(read(folder).victims)


def test_the_interval_is_students_over_trial_means(tmp_path: Path):
    found = average(victims(tmp_path, [(0.1, 0.2), (0.3, 0.3), (0.2, 0.25)]))
    assert found is not None
    means = [0.15, 0.3, 0.225]
    low, high = stats.t.interval(0.95, 2, np.mean(means), stats.sem(means))
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(means), max(0, low), high))
    assert (found.trials, found.victims) == (3, 6)


def test_an_interval_stays_between_0_and_1(tmp_path: Path):
    found = average(victims(tmp_path, [(0.0,), (0.1,)]))
    assert found is not None
    assert found.low == 0


def test_a_victim_that_trials_share_counts_once(tmp_path: Path):
    found = average(victims(tmp_path, [(0.1, 0.3)] * 4, shared=True))
    assert found is not None
    assert (found.mean, found.trials, found.victims) == (pytest.approx(0.2), 2, 2)


def test_a_difference_is_paired_by_trial(tmp_path: Path):
    """As SciPy's paired test: what makes a trial hard for both cancels out."""
    ours, theirs = [0.3, 0.5, 0.4, 0.62], [0.1, 0.31, 0.19, 0.4]
    one = victims(tmp_path / "one", [(each,) for each in ours], attack="back-gradient")
    two = victims(tmp_path / "two", [(each,) for each in theirs])
    found, oracle = gap(one, two), stats.ttest_rel(ours, theirs, alternative="greater")
    assert found is not None
    low, high = stats.ttest_rel(ours, theirs).confidence_interval()
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(ours) - np.mean(theirs), low, high))
    assert found.chance == pytest.approx(oracle.pvalue)
    assert found.above
    assert found.trials == 4


def test_only_trials_of_both_count(tmp_path: Path):
    one = victims(tmp_path / "one", [(0.3,), (0.4,), (0.9,)], attack="back-gradient")
    two = victims(tmp_path / "two", [(0.1,), (0.3,)])
    found = gap(one, two)
    assert found is not None
    assert (found.mean, found.trials) == (pytest.approx(0.15), 2)
    assert gap(one, []) is None


def test_shared_victims_add_their_own_uncertainty(tmp_path: Path):
    """Two clean victims judged on all trials pair with nothing: the standard errors add in squares."""
    ours, clean = [0.3, 0.5, 0.4], (0.1, 0.14)
    one = victims(tmp_path / "one", [(each,) for each in ours], attack="back-gradient")
    found = gap(one, victims(tmp_path / "two", [clean] * 3, shared=True))
    assert found is not None
    half = stats.t.ppf(0.975, 1) * np.hypot(stats.sem(ours), stats.sem(clean))
    assert found.mean == pytest.approx(0.28)
    assert (found.low, found.high) == pytest.approx((max(-1, 0.28 - half), min(1, 0.28 + half)))


def test_a_single_shared_victim_is_taken_as_known(tmp_path: Path):
    ours = [0.3, 0.34, 0.32]
    one = victims(tmp_path / "one", [(each,) for each in ours], attack="back-gradient")
    found = gap(one, victims(tmp_path / "two", [(0.1,)] * 3, shared=True))
    assert found is not None
    half = stats.t.ppf(0.975, 2) * stats.sem(ours)
    assert (found.low, found.high) == pytest.approx((0.22 - half, 0.22 + half))


def test_one_trial_tells_nothing(tmp_path: Path):
    found = gap(victims(tmp_path / "a", [(0.9,)], attack="back-gradient"), victims(tmp_path / "b", [(0.1,)]))
    assert found is not None
    assert (found.mean, found.trials) == (pytest.approx(0.8), 1)
    assert not found.above
    assert (found.low, found.high, found.chance) == (-1, 1, 1)


@pytest.mark.parametrize(("trials", "clear"), [(4, False), (5, True)])
def test_differences_that_are_all_equal_are_judged_by_their_signs(tmp_path: Path, trials: int, clear: bool):
    """Student's interval shrinks to a point there; the sign-flip test needs five trials to get below 5 %."""
    one = victims(tmp_path / "one", [(0.5,)] * trials, attack="back-gradient")
    found = gap(one, victims(tmp_path / "two", [(0.25,)] * trials))
    assert found is not None
    assert found.above is clear


@pytest.mark.parametrize("noise", [0.0, 3e-8])
def test_two_trials_that_agree_are_no_certainty(tmp_path: Path, noise: float):
    """Shares of older runs are float32: noise far below one test row is no spread to compute a p from."""
    one = victims(tmp_path / "one", [(0.15,), (0.15 + noise,)], attack="back-gradient")
    two = victims(tmp_path / "two", [(0.1,)] * 2)
    found, mean = gap(one, two), average(one)
    assert found is not None
    assert mean is not None
    assert found.chance == 0.25  # both signs as they are, of four
    assert not found.above
    assert "+5.0 points [all trials alike]" in points(found, 1)
    assert with_interval(mean).endswith("[all trials alike]")


def test_shared_victims_that_agree_are_no_certainty_either(tmp_path: Path):
    one = victims(tmp_path / "one", [(0.15,), (0.15 + 3e-8,)], attack="back-gradient")
    found = gap(one, victims(tmp_path / "two", [(0.1, 0.1)] * 2, shared=True))
    assert found is not None
    assert (found.chance, found.above) == (0.25, False)
