"""Promises of the terminal's table about attacks that degrade."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from mithridate.cli.results import results_table, subject
from mithridate.report import tables
from mithridate.report.load import read
from tests.report.fabricate import fabricate
from tests.report.fabricate_degrade import Made, fabricate_digits, fabricate_table


def printed(folder: Path, width: int = 120) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(results_table(tables.summary(read(folder))["rows"], title="a run"))
    return file.getvalue()


def test_speaks_of_error_and_rise(tmp_path: Path):
    found = printed(fabricate_table(tmp_path))
    line = next(" ".join(each.split()) for each in found.splitlines() if "back-gradient" in each)
    assert line == "│ back-gradient │ 27% [26-28%] │ 7.3% │ +20.0 [+19.6, +20.5] │ 5 x 1 │"
    for each in ("success", "base rate", "noise control", "accuracy"):
        assert each not in found


def test_one_trial_has_no_interval(tmp_path: Path):
    found = printed(fabricate_table(tmp_path, Made(trials=1)))
    assert "[" not in found.replace("[0m", "")


@pytest.mark.parametrize("width", [80, 120])
def test_defenses_stand_with_what_they_are_worth_and_no_number_is_cut(tmp_path: Path, width: int):
    defenses = {"none": 1.0, "label-sanitisation": 0.3, "slab": 0.6}
    found = printed(fabricate_table(tmp_path, Made(defenses=defenses)), width)
    for each in ("27%", "[26-28%]", "[8.3-10.3%]", "7.3%", "30%", "4.5%"):
        assert each in found
    assert "label-sanitisation: Error 13.5" in " ".join(found.split())
    assert found.count("clearly lower") == 2  # of the attack of the verdict, not of every attack
    assert "success" not in found


def test_long_tables_are_cut_to_the_verdicts_scenario_and_victim(tmp_path: Path):
    victims = {"logistic-regression": 0.07, "mlp-10": 0.06}
    made = Made(budgets=(0.1, 0.02, 0.05), victims=victims, defenses={"none": 1.0, "slab": 0.6}, trials=2)
    found = printed(fabricate_table(tmp_path, made))
    assert "30 further rows are in summary.json and in the report" in found
    assert "mlp-10" not in found
    assert "scenario: 10 % of rows" in found


def test_the_title_says_what_is_measured(tmp_path: Path):
    specific = tables.summary(read(fabricate_digits(tmp_path / "digits")))["rows"]
    assert subject(specific) == "“8” called “3” under poison and on clean data, means over trials"
    targeted = tables.summary(read(fabricate(tmp_path / "targeted", trials=1, runs=1)))["rows"]
    assert subject(targeted) == "success of the poisoner, and its controls"
