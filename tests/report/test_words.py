"""Promises of numbers in running text."""

from __future__ import annotations

import pytest

from mithridate.report.words import duration


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0.0 s"),
        (0.0002, "1 ms"),
        (0.0354, "35 ms"),
        (0.0994, "99 ms"),
        (0.0996, "0.1 s"),
        (9.9, "9.9 s"),
        (48.2, "48 s"),
        (192.0, "3 min 12 s"),
    ],
)
def test_a_short_time_is_no_time_of_nought(seconds: float, said: str):
    assert duration(seconds).replace("\N{NO-BREAK SPACE}", " ") == said
