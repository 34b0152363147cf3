"""Learning rates, against the papers' numbers and by hand."""

from __future__ import annotations

import pytest

from mithridate.learners.recipes import RECIPES
from mithridate.learners.schedule import factor, paper_drops


def test_the_paper_drops_after_14_24_and_35_of_40_epochs():
    assert paper_drops(40) == (14, 24, 35)  # spec section 2.1, confirmed there by a published log


def test_the_attack_drops_after_93_156_and_218_of_250_steps():
    assert paper_drops(250) == (93, 156, 218)  # spec section 1.4
    assert paper_drops(50) == (18, 31, 43)


def test_paper_rates_epoch_by_epoch():
    rates = [0.1 * factor("steps", epoch=epoch, epochs=40, drops=paper_drops(40)) for epoch in range(40)]
    assert rates == pytest.approx([0.1] * 14 + [0.01] * 10 + [0.001] * 11 + [0.0001] * 5)


def test_benchmark_rates_fall_at_100_and_150():
    drops = RECIPES["benchmark-200"]["drops"]
    rates = {
        epoch: 0.1 * factor("steps", epoch=epoch, epochs=200, drops=drops) for epoch in (0, 99.99, 100, 149.99, 150)
    }
    assert list(rates.values()) == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        ("constant", {0: 1, 5: 1, 9.99: 1}),
        ("cosine", {0: 1, 2.5: 0.853553, 5: 0.5, 7.5: 0.146447, 10: 0}),
        ("one-cycle", {0: 0.04, 0.4: 0.2, 1: 0.5, 2: 1, 4: 0.75, 6: 0.5, 10: 0}),
    ],
)
def test_values_by_hand(schedule, values):
    found = [factor(schedule, epoch=epoch, epochs=10, drops=()) for epoch in values]
    assert found == pytest.approx(list(values.values()), abs=1e-6)


def test_one_epoch_is_a_whole_schedule():
    assert factor("cosine", epoch=0.5, epochs=1, drops=()) == pytest.approx(0.5)
    assert factor("one-cycle", epoch=0.0, epochs=1, drops=()) == pytest.approx(0.04)
