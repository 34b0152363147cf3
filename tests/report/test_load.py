"""Promises of reading a run folder for the report."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mithridate.errors import StoreError
from mithridate.report.load import Run, read
from mithridate.store import Store
from tests.report.fabricate import add_victim, plan
from tests.report.fabricate_polytopes import fabricate_polytopes


def test_needs_no_torch():
    code = "import sys, mithridate.report.page, mithridate.report.tables; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_clean_training_judged_on_several_trials_is_one_job(run: Run):
    # 4 trials x (1 craft + 2 defenses x 3 runs x 2 controls) + 2 defenses x 2 clean trainings
    assert run.done == run.planned == 4 * (1 + 2 * 3 * 2) + 2 * 2


def test_the_time_of_one_training_counts_once(run: Run):
    assert run.seconds == pytest.approx(4 * 12 + (4 * 2 * 3 * 2 + 2 * 2) * 20)


def test_values_that_are_no_numbers_stay_gaps(tmp_path: Path):
    with Store(tmp_path, create=True) as store:
        curve = {"loss": [1.0, None, float("nan"), 2.0], "empty": []}
        add_victim(store, "attack", 0, hit=True, clean_accuracy=float("nan"), curve=curve)
    victim = read(tmp_path).victims[0]
    assert victim.clean_accuracy is None
    assert [value == value for value in victim.curve["loss"]] == [True, False, False, True]
    assert set(victim.curve) == {"loss"}


@pytest.mark.parametrize("change", [{"success": None}, {"success": 1.5}, {"control": "other"}, {"trial": None}])
def test_a_row_that_cannot_be_counted_is_refused_by_name(tmp_path: Path, change):
    with Store(tmp_path, create=True) as store:
        add_victim(store, "attack", 0, hit=True)
        (row,) = store.rows()
        store.add("the-key", "victim", row | change)
    with pytest.raises(StoreError, match="the-key"):
        read(tmp_path)


def test_pretraining_counts_as_a_job_and_takes_only_the_time_it_took_here(tmp_path: Path):
    found = read(fabricate_polytopes(tmp_path, trials=2))
    # 1 pretraining, 2 attacks x 2 trials x (1 craft + 2 victims), 2 victims x 1 clean training
    assert found.done == 1 + 2 * 2 * 3 + 2
    assert found.seconds == pytest.approx((300 - 290) + 4 * 12 + (8 + 2) * 20)


def test_pretraining_that_is_no_longer_asked_for_is_left_out(tmp_path: Path):
    with Store(fabricate_polytopes(tmp_path, trials=1)) as store:
        plan(store, [row["key"] for row in store.rows() if row["kind"] != "pretraining"])
    assert read(tmp_path).pretrainings == ()


def test_a_run_that_knows_nothing_of_feature_space_loads_as_before(run: Run):
    assert all(each.polytopes == () for each in run.crafts)
    assert all(each.box is None for each in run.victims)
    assert run.pretrainings == run.published == ()


def test_a_folder_without_a_run_is_refused(tmp_path: Path):
    with pytest.raises(StoreError, match="no run"):
        read(tmp_path)
