"""Promises of what a run says that sharing saved."""

from __future__ import annotations

from pathlib import Path

from mithridate.report.load import read
from mithridate.report.page import html
from mithridate.report.savings import Savings, savings
from mithridate.report.words import duration
from mithridate.store import Store
from tests.report.fabricate import add_craft, add_victim


def test_every_part_by_hand(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        for number, seconds in ((0, 100.0), (1, 10.0), (2, 7.0)):
            row = {"surrogate": number, "learner": "convnet", "seconds": seconds, "curve": {}}
            store.add(f"surrogate-{number}", "surrogate", row)
        for trial, crew in ((0, [0, 1]), (1, [0]), (2, [0])):  # 0 is used three times, 1 once, 2 never
            add_craft(store, trial, surrogates=crew)
        add_victim(store, "attack", 0, hit=True, seconds=30.0, reused=4.0)
        for trial in range(3):  # one network judged on three trials
            add_victim(store, "clean", trial, hit=False, seconds=20.0)
    run = read(tmp_path)
    found = savings(run)
    assert found.surrogates == 200
    assert found.clean == 40
    assert found.found == 4
    assert run.seconds_saved == 244
    assert f"{duration(200)} by surrogates shared by several poisons, {duration(40)} by networks" in html(run)


def test_a_run_that_shares_nothing_saves_nothing(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        add_craft(store, 0)
        add_victim(store, "attack", 0, hit=True)
        add_victim(store, "clean", 0, hit=False)
    assert savings(read(tmp_path)) == Savings(found=0, surrogates=0, clean=0)
    assert "more were saved" not in html(read(tmp_path))


def test_surrogates_whose_poisons_are_yet_to_come_have_saved_nothing(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        for defense in ("", "epic"):  # an adaptive run trains one for each defense
            row = {"surrogate": 0, "learner": "convnet", "seconds": 100.0, "curve": {}}
            store.add(f"surrogate-0{defense}", "surrogate", row)
        add_craft(store, 0, surrogates=[0])
    assert savings(read(tmp_path)).surrogates == 0
