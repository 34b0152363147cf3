"""Promises of the result table and of summary.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scipy.stats import binomtest

from mithridate.report import combinations, tables
from mithridate.report.load import read
from mithridate.store import Store
from tests.report.fabricate import CLASSES, add_craft, add_victim, fabricate, plan
from tests.report.fabricate_polytopes import BULLSEYE, SOURCE, fabricate_polytopes

SHAPE = {
    "attack": str,
    "defense": str,
    "victim": str,
    "scenario": str,
    "trials": int,
    "victims": int,
    "success": dict,
    "base_rate": float,
    "noise_control": float,
    "clean_accuracy": dict,
    "accuracy_without_poison": dict,
    "seconds": float,
    "peak_memory": int,
    "eps": float,
    "budget": float,
}


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """Two trials of two victims: both hit in the first, none in the second; one clean training hits once."""
    with Store(tmp_path, create=True) as store:
        for trial in range(2):
            add_craft(store, trial)
            for run in range(2):
                add_victim(store, "attack", trial, hit=trial == 0, run=run, clean_accuracy=0.8 + 0.1 * run)
            add_victim(store, "clean", trial, hit=trial == 1, clean_accuracy=0.9 - 0.01 * trial)
    return tmp_path


def row(folder: Path) -> dict:
    (only,) = tables.summary(read(folder))["rows"]
    return only


def test_rows_have_the_promised_shape(folder: Path):
    written = json.loads(tables.write_summary(folder).read_text())
    assert list(written) == ["rows", "attack_comparisons", "power", "stopped", "seconds_saved", "read_whole"]
    assert [each["defense"] for each in written["rows"]] == ["none", "epic 0.1"]
    for each in written["rows"]:
        assert {name: type(each[name]) for name in SHAPE} == SHAPE
        for name in ("success", "clean_accuracy", "accuracy_without_poison"):
            assert set(each[name]) == {"mean", "low", "high"}
            assert each[name]["low"] <= each[name]["mean"] <= each[name]["high"]


def test_victims_of_one_trial_are_no_independent_evidence(by_hand: Path):
    found = row(by_hand)
    assert (found["trials"], found["victims"]) == (2, 4)
    interval = binomtest(1, 2).proportion_ci(method="wilson")  # each trial's victims agree: 4 count as 2
    assert found["success"] == pytest.approx({"mean": 0.5, "low": interval.low, "high": interval.high})


def test_a_control_that_was_not_run_is_null_and_not_zero(by_hand: Path):
    found = row(by_hand)
    assert found["noise_control"] is None
    assert found["noise_interval"] is None
    assert found["base_rate"] == 0.5


def test_accuracies_are_means_over_trainings_with_students_t(by_hand: Path):
    found = row(by_hand)
    half = 3.182446 * 0.1 / 3**0.5 / 2  # t(0.975, 3 df) x the standard deviation of .8 .8 .9 .9 / sqrt(4)
    assert found["clean_accuracy"] == pytest.approx({"mean": 0.85, "low": 0.85 - half, "high": 0.85 + half}, abs=1e-6)
    one = found["accuracy_without_poison"]  # one training judged on two trials: its spread is not known
    assert one == {"mean": pytest.approx(0.895), "low": None, "high": None}


@pytest.mark.parametrize(("values", "low", "high"), [((0.99, 0.95), 0.7158759, 1.0), ((0.9, 0.9), None, None)])
def test_accuracies_stay_within_0_and_1_and_equal_ones_have_no_bounds(
    tmp_path: Path, values: tuple[float, float], low: float | None, high: float | None
) -> None:
    """Mean 0.97, half width 12.7062 * 0.02: the upper bound would be 122 %. Of equal ones no spread is known."""
    with Store(tmp_path, create=True) as store:
        store.describe(classes=list(CLASSES))
        for trial, value in enumerate(values):
            add_victim(store, "attack", trial, hit=True, clean_accuracy=value)
    (row,) = tables.summary(read(tmp_path))["rows"]
    mean = sum(values) / 2
    assert row["clean_accuracy"] == pytest.approx({"mean": mean, "low": low, "high": high}, abs=1e-6)


def test_time_adds_up_and_memory_is_the_largest(by_hand: Path):
    found = row(by_hand)
    assert found["seconds"] == 2 * 12 + 4 * 20
    assert found["peak_memory"] == 500_000_000


def test_clean_victims_hold_for_every_scenario_but_only_their_defense(tmp_path: Path):
    fabricate(tmp_path, scenarios=((0.1, 0.04), (0.05, 0.04)), defenses=("none", "mixup"), noise=False)
    found = combinations.cells(read(tmp_path))
    assert len(found) == 4
    assert all(len(cell.clean) == 4 * 2 for cell in found)
    assert all(victim.defense == cell.defense for cell in found for victim in cell.clean)


def test_combinations_without_results_are_no_rows_of_the_summary(tmp_path: Path):
    with Store(tmp_path, create=True) as store:
        add_craft(store, 0)
        add_craft(store, 0, radius=0.05)
        add_victim(store, "attack", 0, hit=True)
    run = read(tmp_path)
    assert len(combinations.cells(run)) == 2
    assert len(tables.summary(run)["rows"]) == 1


def test_an_empty_run_has_an_empty_summary(tmp_path: Path):
    with Store(tmp_path, create=True):
        pass
    assert json.loads(tables.write_summary(tmp_path).read_text()) == {
        "rows": [],
        "attack_comparisons": [],
        "power": None,
        "stopped": None,
        "seconds_saved": 0,
        "read_whole": None,
    }


def test_controls_count_on_the_targets_of_the_attack_and_on_no_others(tmp_path: Path):
    """Clean networks are judged on every trial's target; an attack tried on two of six is compared on those two."""
    with Store(tmp_path, create=True) as store:
        for trial in range(6):
            if trial < 2:
                add_craft(store, trial)
                add_victim(store, "attack", trial, hit=True)
            add_victim(store, "noise", trial, hit=trial >= 2)
            add_victim(store, "clean", trial, hit=trial >= 2)
    found = row(tmp_path)
    assert (found["base_rate"], found["base_rate_interval"]["trials"]) == (0.0, 2)
    assert (found["noise_control"], found["noise_interval"]["trials"]) == (0.0, 2)


def test_rows_that_are_no_longer_asked_for_are_left_out(tmp_path: Path):
    with Store(tmp_path, create=True) as store:
        for trial in range(4):
            add_craft(store, trial)
            add_victim(store, "attack", trial, hit=True)
        kept = [each["key"] for each in store.rows() if each["trial"] < 2]
        plan(store, kept)
    assert row(tmp_path)["trials"] == 2


def test_a_row_says_what_the_attacker_knows(tmp_path: Path):
    rows = tables.summary(read(fabricate_polytopes(tmp_path)))["rows"]
    assert [(each["victim"], each["box"]) for each in rows[:2]] == [
        ("resnet18, transfer", "white-box"),
        ("vgg11, transfer", "black-box"),
    ]


def test_what_was_not_recorded_is_null_and_what_nobody_published_is_empty(by_hand: Path):
    assert (row(by_hand)["box"], row(by_hand)["published"]) == (None, [])


def test_published_numbers_stand_in_their_own_rows_only(tmp_path: Path):
    rows = tables.summary(read(fabricate_polytopes(tmp_path)))["rows"]
    found = {(each["attack"], each["box"]): each["published"] for each in rows}
    assert [key for key, each in found.items() if each] == [(BULLSEYE, "white-box")]
    (number,) = found[BULLSEYE, "white-box"]
    assert (number["rate"], number["trials"], number["source"]) == (0.95, 100, SOURCE)


@pytest.mark.parametrize(
    ("rate", "ours"), [(0.95, "below"), (0.9, "agrees"), (0.5, "agrees"), (0.1, "agrees"), (0.05, "above")]
)
def test_our_interval_lies_below_around_or_above_a_published_rate(by_hand: Path, rate: float, ours: str):
    """One of two independent trials: Wilson's interval is 9 % to 91 %."""
    with Store(by_hand) as store:
        published = {"attack": "gradient-matching", "victim": "convnet, 25 epochs", "rate": rate, "source": "s"}
        store.describe(published=[published])
    (number,) = row(by_hand)["published"]
    assert number["ours"] == ours
    assert number["words"].endswith(f"the published {100 * rate:.0f}\N{NO-BREAK SPACE}%")


def test_published_numbers_are_for_the_undefended_base_scenario(tmp_path: Path):
    fabricate(tmp_path, scenarios=((0.1, 0.04), (0.05, 0.04)), defenses=("none", "mixup"), noise=False)
    with Store(tmp_path) as store:
        published = {"attack": "gradient-matching", "victim": "convnet, 25 epochs", "rate": 0.5, "source": "s"}
        store.describe(published=[published])
    rows = tables.summary(read(tmp_path))["rows"]
    assert [bool(each["published"]) for each in rows] == [True, False, False, False]
