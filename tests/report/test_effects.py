"""Promises of the numbers of a defense."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mithridate.report.combinations import cells
from mithridate.report.effects import average, certified, drops, effect
from mithridate.report.load import read
from mithridate.report.page import html
from mithridate.report.tables import summary
from mithridate.report.treatment import Certificate
from mithridate.store import Store
from tests.report.fabricate import add_victim
from tests.report.fabricate_defenses import EPIC, NONE, Made, add_defended, controls, fabricate_defenses


def test_means_by_hand(tmp_path: Path):
    counts = {"poison_rows": 10, "training_rows": 110, "defense": "knn"}
    with Store(tmp_path, create=True) as store:
        add_victim(store, "attack", 0, hit=True, seconds=10.0)
        add_victim(store, "attack", 0, hit=True, **counts, dropped=10, dropped_poison=5, seconds=15.0)
        add_victim(store, "attack", 1, hit=True, **counts, dropped=40, dropped_poison=10, seconds=25.0)
    plain, cell = cells(read(tmp_path))
    found = effect(cell, plain)
    assert (found.dropped, found.recall, found.clean_drop) == pytest.approx((25, 0.75, (0.05 + 0.3) / 2))
    assert (found.seconds, found.times) == (20, 2)
    assert effect(cell, None).times is None


def test_facts_and_certificates_are_means_over_those_that_have_them(tmp_path: Path):
    with Store(tmp_path, create=True) as store:
        for trial, (facts, accuracy) in enumerate([({"epsilon": 3}, [0.8, 0.6]), ({"epsilon": 5}, [0.6]), ({}, [])]):
            certificate = {"radius": [0, 4][: len(accuracy)], "accuracy": accuracy}
            add_victim(store, "attack", trial, hit=False, facts=facts, certified=certificate)
    (cell,) = cells(read(tmp_path))
    found = certified(cell)
    assert effect(cell, None).facts == {"epsilon": 4}
    assert found is not None
    assert found.radius == (0, 4)
    assert found.accuracy == pytest.approx((0.7, 0.3)), "one certifies nothing at 4"
    one, two = Certificate(radius=(0, 3, 5), accuracy=(0.9, 0.5, 0.4)), Certificate(radius=(0, 4), accuracy=(0.3, 0.1))
    assert average([one, two]).radius == (0, 3, 4, 5)
    assert average([one, two]).accuracy == pytest.approx((0.6, 0.3, 0.25, 0.2))


def test_a_defense_that_found_nothing_still_drops_where_it_has_a_control(tmp_path: Path):
    nothing = replace(EPIC, rounds=())
    mixup = Made(name="mixup", success=0.5)
    made = [NONE, nothing, mixup, *controls(nothing)]
    found = cells(read(fabricate_defenses(tmp_path, made, trials=1, runs=1)))
    assert {cell.defense: drops(cell, found) for cell in found if not cell.control_of} == {
        "none": False,
        "epic": True,
        "mixup": False,
    }


def test_a_training_judged_on_several_trials_counts_once(tmp_path: Path):
    with Store(tmp_path, create=True) as store:
        for trial, training in enumerate(("one", "one", "other")):
            counts = {"dropped": 9 if training == "other" else 3, "training": training}
            add_defended(store, "attack", trial, EPIC, **counts)
            add_victim(store, "attack", trial, hit=True)
    run = read(tmp_path)
    assert {each.training for each in run.victims if each.defense == "epic"} == {"one", "other"}
    assert effect(next(cell for cell in cells(run) if cell.defense == "epic"), None).dropped == 6


def test_an_infinite_fact_stays_one_in_every_table(tmp_path: Path):
    """Privacy spent without noise: to leave it out would read as if there were no price."""
    with Store(tmp_path, create=True) as store:
        add_victim(
            store, "attack", 0, hit=False, defense="dp-sgd", facts={"epsilon": float("inf"), "delta": float("nan")}
        )
    run = read(tmp_path)
    assert summary(run)["rows"][0]["facts"] == {"epsilon": "infinite"}
    assert "epsilon inf" in html(run)
