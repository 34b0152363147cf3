"""Promises of the confusion matrices and of the transfer table."""

from __future__ import annotations

from pathlib import Path

import pytest

from mithridate.report.combinations import cells
from mithridate.report.confusions import Confusions, confusions
from mithridate.report.damage import chosen
from mithridate.report.load import read
from mithridate.report.transfer import Transfer, transfers
from mithridate.store import Store
from tests.report.fabricate_degrade import Made, add_victim, fabricate_digits, fabricate_table, settings


def of(folder: Path) -> Confusions | None:
    run = read(folder)
    found = cells(run)
    cell = chosen(run, found)
    assert cell is not None
    assert run.degradation is not None
    return confusions(run, cell, run.degradation)


def test_counts_are_means_and_shares_are_of_the_true_class(tmp_path: Path):
    """By hand: (8 + 6)/2 = 7 of 10 rows are right; the poisoned victim calls 5 of 10 rows of class 0 class 1."""
    with Store(tmp_path, create=True) as store:
        store.describe(experiment=settings(kind="generic"), classes=["ham", "spam"])
        for trial, right in enumerate((8, 6)):
            add_victim(store, "", trial=trial, confusion=[[right, 10 - right], [0, 40]])
            add_victim(store, "back-gradient", trial=trial, confusion=[[5, 5], [4, 36]])
    found = of(tmp_path)
    assert found is not None
    clean, poisoned = (dict(grid.rows) for grid in found.grids)
    assert [place.text for place in clean["ham"]] == ["70", "30"]
    assert clean["ham"][1].title == "“ham” called “spam”: 30\N{NO-BREAK SPACE}%, 3 of 10 rows"
    assert [place.text for place in clean["spam"]] == ["", "100"]
    assert [place.text for place in poisoned["spam"]] == ["10", "90"]
    assert found.grids[1].title == "Trained with poison by back-gradient, mean of 2 victims"
    said = [each.replace("\N{NO-BREAK SPACE}", " ") for each in found.risen]
    assert said == ["“ham” called “spam”, 30 % to 50 %", "“spam” called “ham”, 0.0 % to 10 %"]


def test_the_wish_of_an_error_specific_attack_is_marked(tmp_path: Path):
    found = of(fabricate_digits(tmp_path))
    assert found is not None
    for grid in found.grids:
        marked = [(name, k) for name, places in grid.rows for k, place in enumerate(places) if place.wished]
        assert marked == [("8", 3)]
    assert found.risen[0].startswith("“8” called “3”, ")


def test_a_shared_victim_counts_once(tmp_path: Path):
    found = of(fabricate_table(tmp_path, Made(resample=False)))
    assert found is not None
    assert [grid.title for grid in found.grids] == [
        "Trained on clean data, mean of 1 victim",
        "Trained with poison by back-gradient, mean of 5 victims",
    ]


def test_without_matrices_there_is_nothing(tmp_path: Path):
    with Store(tmp_path, create=True) as store:
        store.describe(experiment=settings(kind="generic"))
        add_victim(store, "back-gradient", confusion=None)
    assert of(tmp_path) is None


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[Transfer]:
    made = Made(
        budgets=(0.1, 0.05), victims={"logistic-regression": 0.07, "mlp-10": 0.06}, defenses={"none": 1, "k": 0}
    )
    run = read(fabricate_table(tmp_path_factory.mktemp("transfer"), made))
    found = cells(run)
    cell = chosen(run, found)
    assert cell is not None
    return transfers(run, found, cell)


def test_each_scenario_has_a_table_of_undefended_attacks(tables: list[Transfer]):
    assert [table.scenario for table in tables] == ["10 % of rows, unbounded", "5 % of rows, unbounded"]
    assert tables[0].victims == ("logistic-regression", "mlp-10")
    assert [row.attack for row in tables[0].rows] == ["back-gradient", "random-flips", "loss-flips"]
    assert [row.words for row in tables[0].rows][:2] == ["", "random label flips"]


def test_a_pair_holds_the_mean_and_the_paired_rise(tables: list[Transfer]):
    pair = tables[0].rows[0].pairs[1]
    assert pair.rate is not None
    assert pair.rise is not None
    clean = tables[0].clean[1]
    assert clean is not None
    assert pair.rise.mean == pytest.approx(pair.rate.mean - clean.mean)
    assert pair.rise.mean == pytest.approx(0.12, abs=0.01)
    assert pair.rise.high - pair.rise.low < pair.rate.high - pair.rate.low  # pairing tells
    assert [each.box for each in tables[0].rows[0].pairs] == ["white-box", "black-box"]
    assert tables[0].rows[1].pairs[0].box is None


def test_the_largest_rise_is_the_darkest(tables: list[Transfer]):
    shades = {(row.attack, k): pair.shade for row in tables[0].rows for k, pair in enumerate(row.pairs)}
    assert max(shades, key=lambda place: shades[place]) == ("back-gradient", 0)
    assert shades["back-gradient", 0] == 42
    assert min(shades.values()) > 0


def test_what_was_not_run_is_no_zero(tmp_path: Path):
    with Store(tmp_path, create=True) as store:
        store.describe(experiment=settings(kind="generic"))
        add_victim(store, "back-gradient", "svm")
        add_victim(store, "random-flips", "mlp")
    run = read(tmp_path)
    found = cells(run)
    cell = chosen(run, found)
    assert cell is not None
    (table,) = transfers(run, found, cell)
    assert [[pair.rate is None for pair in row.pairs] for row in table.rows] == [[False, True], [True, False]]
    assert table.clean == (None, None)
    assert [pair.shade for row in table.rows for pair in row.pairs] == [0] * 4
