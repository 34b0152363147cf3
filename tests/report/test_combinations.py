"""Promises of the order of defenses and their controls."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from mithridate.report.combinations import cells
from mithridate.report.ledger import Fact, Ledger
from mithridate.report.load import Run, read
from mithridate.store import Store
from tests.report.fabricate import add_craft
from tests.report.fabricate_defenses import EPIC, NONE, Made, add_defended, controls, fabricate_defenses, filtered


def test_each_control_stands_under_its_defense_and_a_shared_one_under_the_last(tmp_path: Path):
    knn = filtered("deep-knn", 0.1, 200, 100)
    shared = Made(name="oracle-filter", success=0.0, control_of=("epic", "deep-knn"), oracle=True)
    asked = [Made(name="mixup", success=0.3), EPIC, knn, NONE, Made(name="jpeg", success=0.3)]
    made = [*asked, shared, *controls(knn), *controls(EPIC)]
    found = cells(read(fabricate_defenses(tmp_path, made, trials=1, runs=1)))
    assert [(cell.defense, cell.oracle) for cell in found] == [
        ("none", False),
        ("mixup", False),
        ("epic", False),
        ("random-drop (like epic)", False),
        ("top-loss-drop (like epic)", False),
        ("deep-knn", False),
        ("random-drop (like deep-knn)", False),
        ("top-loss-drop (like deep-knn)", False),
        ("oracle-filter", True),
        ("jpeg", False),
    ]
    assert found[3].control_of == ("epic",)


def test_a_control_of_nothing_in_the_run_comes_last(tmp_path: Path):
    lost = Made(name="random-drop (like epic)", success=0.5, control_of=("epic",))
    made = [lost, NONE, Made(name="mixup", success=0.3)]
    found = cells(read(fabricate_defenses(tmp_path, made, trials=1, runs=1)))
    assert [cell.defense for cell in found] == ["none", "mixup", lost.name]


def test_a_control_without_results_is_still_known_as_one(tmp_path: Path):
    """In a scenario where it was not run yet, a control has no row that says what it is."""
    scenarios = ((32 / 255, 0.04), (16 / 255, 0.04))
    run = read(fabricate_defenses(tmp_path, [NONE, EPIC, *controls(EPIC)], trials=1, runs=1, scenarios=scenarios))
    later = run.crafts[-1].scenario
    few = tuple(each for each in run.victims if each.scenario != later)
    found = cells(type(run)(**{**vars(run), "victims": few}))
    assert [(cell.control_of, len(cell.poisoned)) for cell in found[4:]] == [
        ((), 0),
        ((), 0),
        (("epic",), 0),
        (("epic",), 0),
    ]


def test_rows_written_before_another_defense_was_asked_for_are_no_contradiction(tmp_path: Path):
    with Store(tmp_path, create=True) as store:
        for trial, names in enumerate((["epic"], ["epic", "deep-knn"], None)):
            add_craft(store, trial)
            add_defended(store, "attack", trial, Made(name="oracle-filter", success=0.0), control_of=names)
    (cell,) = cells(read(tmp_path))
    assert cell.control_of == ("epic", "deep-knn")


def test_what_the_ledger_calls_an_oracle_is_one_though_no_row_was_read_that_says_so(tmp_path: Path):
    """Of a very large run, only scalars are read of most networks, and those do not say it."""
    run = read(fabricate_defenses(tmp_path, [NONE, Made(name="mixup", success=0.3)], trials=1, runs=1))
    told = Fact(who="attacker", what="everything", value="the victim's weights", oracle=True, where="")
    plain = cells(run)
    places = {(cell.attack, cell.scenario, cell.victim): (told,) for cell in plain}
    assert not any(cell.oracle for cell in plain)
    attacked = type(run)(**{**_fields(run), "ledger": Ledger(attackers=places)})
    assert all(cell.oracle for cell in cells(attacked))
    defended = type(run)(**{**_fields(run), "ledger": Ledger(stacks={("mixup",): (told,)})})
    assert [cell.oracle for cell in cells(defended)] == [False, True]


def _fields(run: Run) -> dict[str, Any]:
    return {each.name: getattr(run, each.name) for each in fields(run)}
