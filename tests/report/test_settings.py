"""Promises of the settings tables."""

from __future__ import annotations

from mithridate.report import settings
from tests.report.fabricate import experiment


def test_every_setting_stands_under_its_full_place():
    rows = dict(row for group in settings.groups(experiment()) for row in group.rows)
    assert rows["seed"] == "7"
    assert rows["attacks[0].steps"] == "80"
    assert rows["attacks[0].init"] == "none"
    assert rows["attacks[0].augment"] == "yes"
    assert rows["victims[0].model.widths"] == "16, 32"
    assert rows["threat.perturbation.radius"] == "0.12549 (32/255)"


def test_odd_values_are_shown_and_not_lost():
    rows = dict(row for group in settings.groups({"a": [[], {}], "b": {}, "c": [[1, [2]]]}) for row in group.rows)
    assert rows == {"b": "none", "a[0]": "none", "a[1]": "none", "c[0][0]": "1", "c[0][1]": "2"}
