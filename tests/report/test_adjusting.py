"""Adjusted chances by hand."""

from __future__ import annotations

import pytest

from mithridate.report.adjusting import adjusted, adjusted_claims
from mithridate.stats import Difference


def difference(chance: float) -> Difference:
    return Difference(mean=-0.5, low=-0.8, high=-0.2, chance=chance, trials=10)


def test_adjusted_is_holms_over_all_and_leaves_intervals_alone() -> None:
    found = adjusted([difference(chance) for chance in (0.03, 0.01)])
    assert [each.chance for each in found] == pytest.approx([0.03, 0.02])
    assert {(each.low, each.high, each.family) for each in found} == {(-0.8, -0.2, 2)}


def test_a_claim_is_as_weak_as_its_weakest_difference() -> None:
    """Claims of 0.01 and of 0.02: 0.01 doubles; 0.001, beside a claim of 0.02, doubles too; 0.02 stays."""
    claims = [[difference(0.01), difference(0.001)], [difference(0.02)], []]
    found = [[each.chance for each in claim] for claim in adjusted_claims(claims)]
    assert found == [pytest.approx([0.02, 0.002]), pytest.approx([0.02]), []]


def test_one_alone_is_not_adjusted() -> None:
    assert adjusted([difference(0.04)]) == [difference(0.04)]
    assert adjusted_claims([[difference(0.04)], []]) == [[difference(0.04)], []]
    assert adjusted([]) == []
