"""Promises of reading what a defense did."""

from __future__ import annotations

from pathlib import Path

import pytest

from mithridate.report.load import read
from mithridate.report.treatment import Treatment, treatment
from mithridate.store import Store
from tests.report.fabricate import add_victim

ROW = {"dropped": 60, "dropped_poison": 30, "poison_rows": 40, "training_rows": 1040}


def test_shares_by_hand():
    found = treatment(ROW)
    assert (found.share, found.recall, found.clean_drop) == pytest.approx((60 / 1040, 30 / 40, 30 / 1000))


@pytest.mark.parametrize("lost", ["dropped", "dropped_poison", "poison_rows", "training_rows"])
def test_what_is_not_known_is_no_number(lost: str):
    found = treatment({name: value for name, value in ROW.items() if name != lost})
    assert found.clean_drop is None
    assert (found.recall is None) == (lost in ("dropped_poison", "poison_rows"))


def test_there_is_no_recall_without_poison():
    assert treatment(ROW | {"poison_rows": 0, "dropped_poison": 0}).recall is None


def test_rounds_add_up_where_no_sum_was_recorded():
    rounds = [{"by": "epic", "epoch": e, "rows": 10, "poison": e, "by_class": [4, 6]} for e in (2, 3)]
    found = treatment({"removals": rounds})
    assert (found.dropped, found.dropped_poison) == (20, 5)
    assert [each.by_class for each in found.rounds] == [(4, 6), (4, 6)]
    assert treatment({"removals": []}).dropped is None


def test_one_name_or_several_are_controlled():
    assert treatment({"control_of": "epic"}).control_of == ("epic",)
    assert treatment({"control_of": ["epic", "deep-knn"]}).control_of == ("epic", "deep-knn")
    assert treatment({"control_of": None}).control_of == ()


@pytest.mark.parametrize("junk", ["text", 7, None, [None], [{"epoch": "x"}], {"radius": 3}, float("nan")])
def test_junk_is_left_out(junk: object):
    row = dict.fromkeys(("removals", "facts", "certified", "class_rows", "dropped", "control_of"), junk)
    found = treatment(row)
    assert found.certificate is None
    assert found.facts == ({"radius": 3} if isinstance(junk, dict) else {})


def test_a_certificate_is_read_in_the_order_of_its_radii():
    found = treatment({"certified": {"radius": [2, 0, 1], "accuracy": [0.1, 0.9, None]}}).certificate
    assert found is not None
    assert (found.radius, found.accuracy) == ((0, 2), (0.9, 0.1))


def test_runs_of_older_releases_know_nothing_of_it(tmp_path: Path):
    with Store(tmp_path, create=True) as store:
        add_victim(store, "attack", 0, hit=True)
    nothing = treatment({})
    assert read(tmp_path).victims[0].treatment == nothing
    assert isinstance(nothing, Treatment)
    assert (nothing.dropped, nothing.images, nothing.oracle, nothing.reused) == (None, None, False, 0)


def test_work_that_was_found_done_counts_for_the_defense_and_not_for_the_run(tmp_path: Path):
    with Store(tmp_path, create=True) as store:
        add_victim(store, "attack", 0, hit=True, seconds=50.0, reused=20.0)
    run = read(tmp_path)
    assert run.seconds == 30
    assert run.victims[0].seconds == 50


def test_poison_that_was_added_counts_among_the_training_rows():
    """By hand: of 100 clean rows and 18 of poison, 13 went, 5 of them poison: 8 of the 100 clean ones are lost."""
    row = {"training_rows": 100, "class_rows": [74, 44], "poison_rows": 18, "dropped": 13, "dropped_poison": 5}
    found = treatment(row)
    assert found.training_rows == 118
    assert found.share == pytest.approx(13 / 118)
    assert found.clean_drop == pytest.approx(0.08)
