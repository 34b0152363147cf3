"""Promises of what is read of attacks that degrade."""

from __future__ import annotations

from pathlib import Path

import pytest

from mithridate.report.degrading import baseline, degradation
from mithridate.report.load import read
from mithridate.store import Store
from tests.report.fabricate import fabricate
from tests.report.fabricate_degrade import add_victim, fabricate_table, settings


@pytest.mark.parametrize(("source", "intended"), [("eight", "three"), (1, 0), ("1", "0"), ("eight", 0)])
def test_classes_are_known_by_name_and_by_number(source: object, intended: object):
    found = degradation(settings(kind="specific", source=source, intended=intended), ("three", "eight"))
    assert found is not None
    assert (found.source, found.intended, found.confusion) == (1, 0, "“eight” called “three”")
    assert found.noun == "the share of “eight” called “three”"


def test_any_error_has_no_classes():
    found = degradation(settings(kind="generic"), ("a", "b"))
    assert found is not None
    assert (found.source, found.intended, found.confusion, found.noun) == (None, None, "", "the error")
    assert (found.appended, found.dirty) == (True, True)


@pytest.mark.parametrize("experiment", [{}, {"threat": None}, {"threat": {"goal": {"name": "misclassify"}}}])
def test_other_goals_are_none(experiment: dict):
    assert degradation(experiment, ()) is None


def test_baselines_are_known_whatever_stands_behind_their_name():
    assert baseline("random-flips (balanced=True)") == "random label flips"
    assert baseline("back-gradient (surrogate=1)") is None


def test_targets_are_still_counted_where_the_goal_is_another(tmp_path: Path):
    assert not any(victim.graded for victim in read(fabricate(tmp_path, trials=1, runs=1)).victims)


def test_accuracy_follows_from_the_error(tmp_path: Path):
    """The one that is stored leaves the targets out, which are all test rows here."""
    with Store(tmp_path, create=True) as store:
        store.describe(experiment=settings(kind="generic"))
        add_victim(store, "back-gradient", error=0.25, clean_accuracy=0.0)
    (found,) = read(tmp_path).victims
    assert (found.graded, found.error, found.clean_accuracy) == (True, 0.25, 0.75)


@pytest.mark.parametrize("wrong", [None, [[1, 2], [3]], [[1, -2], [3, 4]], [["a", 2], [3, 4]], 7])
def test_what_is_no_confusion_matrix_is_none(tmp_path: Path, wrong: object):
    with Store(tmp_path, create=True) as store:
        store.describe(experiment=settings(kind="generic"))
        add_victim(store, "back-gradient", confusion=wrong)
    assert read(tmp_path).victims[0].confusion == ()


def test_the_share_of_all_rows_is_read(tmp_path: Path):
    craft = read(fabricate_table(tmp_path)).crafts[0]
    assert (craft.budget, craft.rows) == (0.1, 40)
    assert craft.total_share == pytest.approx(40 / 440)
