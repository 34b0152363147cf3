"""Power by counting every outcome, against the slow sum over all of them and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mithridate.errors import ConfigError
from mithridate.pairing import chance_of_split, mcnemar
from mithridate.power import above, below, chance_to_tell, sentence, trials_needed


@pytest.mark.parametrize(("trials", "first", "second"), [(6, 0.9, 0.1), (9, 0.7, 0.2), (12, 1.0, 0.5), (5, 1.0, 0.0)])
def test_power_counts_every_outcome(trials: int, first: float, second: float) -> None:
    up, down = first * (1 - second), second * (1 - first)
    expected = 0.0
    for one in range(trials + 1):
        for two in range(trials + 1 - one):
            same = trials - one - two
            ways = math.factorial(trials) / math.factorial(one) / math.factorial(two) / math.factorial(same)
            hits, other = [1.0] * one + [0.0] * two + [0.0] * same, [0.0] * one + [1.0] * two + [0.0] * same
            if mcnemar(hits, other).chance <= 0.05:
                expected += ways * up**one * down**two * (1 - up - down) ** same
    assert chance_to_tell(trials, first, second) == pytest.approx(expected)


def test_power_is_how_often_the_test_tells() -> None:
    source = np.random.default_rng(0)
    first, second = (source.random((10_000, 30)) < rate for rate in (0.45, 0.1))
    one, two = (first & ~second).sum(1), (second & ~first).sum(1)
    told = (chance_of_split(one, one + two) <= 0.05).mean()
    assert chance_to_tell(30, 0.45, 0.1) == pytest.approx(told, abs=0.015)


def test_equal_rates_are_told_apart_no_more_often_than_the_level() -> None:
    assert all(chance_to_tell(trials, rate, rate) <= 0.05 for trials in (1, 5, 20, 100) for rate in (0.0, 0.3, 0.5, 1))


def test_below_is_the_edge_of_what_can_be_told() -> None:
    found = below(40, 0.45)
    assert found is not None
    assert chance_to_tell(40, 0.45, found) >= 0.8 > chance_to_tell(40, 0.45, found + 0.01)
    over = above(40, 0.45)
    assert over is not None
    assert chance_to_tell(40, 0.45, over) >= 0.8 > chance_to_tell(40, 0.45, over - 0.01)


def test_too_few_trials_tell_nothing() -> None:
    assert below(5, 1.0) is None  # five trials that all disagree have p = 2 / 2^5
    assert below(6, 1.0) is not None
    assert below(100, 0.0) is None


def test_trials_needed_is_the_first_number_that_tells_and_goes_on_telling() -> None:
    found = trials_needed(0.45, 0.1)
    assert found == trials_needed(0.1, 0.45)
    assert found is not None
    assert all(chance_to_tell(found + k, 0.45, 0.1) >= 0.8 for k in range(5))
    assert not all(chance_to_tell(found - 1 + k, 0.45, 0.1) >= 0.8 for k in range(5))
    assert trials_needed(0.3, 0.3) is None
    assert trials_needed(0.301, 0.3) is None


def test_the_sentence_names_what_can_and_what_cannot_be_told() -> None:
    """20 trials, 9 hits: 45 % against the edges that the functions above give, and half-way to the lower one not."""
    said = sentence([[1.0]] * 9 + [[0.0]] * 11).replace("\N{NO-BREAK SPACE}", " ")
    low, high = below(20, 0.45), above(20, 0.45)
    assert low is not None
    assert high is not None
    near = (0.45 + low) / 2
    assert said.startswith(f"These 20 trials can tell 45 % from {100 * low:.0f} % or less (or from ")
    assert f"{100 * high:.0f} % or more), not from {100 * round(near, 2):.0f} %." in said
    assert "McNemar's exact test over the same trials at 5 %, with a power of 80 %" in said


def test_the_sentence_in_the_docstring_is_the_one_it_gives() -> None:
    said = sentence([[1.0]] * 9 + [[0.0]] * 11).replace("\N{NO-BREAK SPACE}", " ").split(" (McNemar")[0]
    assert said == "These 20 trials can tell 45 % from 4 % or less (or from 91 % or more), not from 24 %."
    assert sentence.__doc__ is not None
    assert said in " ".join(sentence.__doc__.split())


@pytest.mark.parametrize(
    ("hits", "trials", "rate"),
    [(1, 250, "0.4"), (0, 250, "0"), (13, 250, "5.2"), (249, 250, "99.6"), (1, 5000, "0.02"), (5, 100, "5")],
)
def test_the_sentence_does_not_round_a_hit_away(hits: int, trials: int, rate: str) -> None:
    said = sentence([[1.0]] * hits + [[0.0]] * (trials - hits)).replace("\N{NO-BREAK SPACE}", " ")
    assert f"trials can tell {rate} % from" in said


def test_the_sentence_of_few_trials_says_that_they_tell_nothing() -> None:
    assert sentence([[0.0]] * 3).startswith("These 3 trials cannot tell 0\N{NO-BREAK SPACE}% from any other rate.")
    assert sentence([[1.0, 1.0]]).startswith("This one trial cannot tell")


def test_victims_that_always_agree_add_nothing_to_the_power() -> None:
    single = [[1.0]] * 10 + [[0.0]] * 10
    assert sentence([each * 4 for each in single]) == sentence(single)
    mixed = [[1.0, 0.0, 1.0, 0.0]] * 20
    assert sentence(mixed) != sentence(single)


def test_refuses_what_is_no_rate() -> None:
    with pytest.raises(ConfigError, match=r"\[0, 1\], but got 1.5"):
        chance_to_tell(5, 1.5, 0.2)
    with pytest.raises(ConfigError, match="at least one trial"):
        trials_needed(0.2, 0.3) if chance_to_tell(0, 0.2, 0.3) else None
    with pytest.raises(ConfigError, match="at least one trial"):
        sentence([])
