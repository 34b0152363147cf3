"""Promises of the trade-off: a mark for every defense with results, its area by its cost, a figure for each attack."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mithridate.report import combinations
from mithridate.report.combinations import Cell, same_attack
from mithridate.report.drawings import Dot, trade
from mithridate.report.load import read
from mithridate.report.tradeoff import others, tradeoff
from tests.report.fabricate_grid import ATTACKS, Grid, fabricate_grid


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Cell]:
    return combinations.cells(read(fabricate_grid(tmp_path_factory.mktemp("trade"), Grid(trials=4))))


def test_every_defense_is_named_with_its_cost(found: list[Cell]):
    figure = tradeoff(same_attack(found, found[0]))
    assert figure is not None
    assert figure.caption.startswith(
        "1\N{NO-BREAK SPACE}no defense, 2\N{NO-BREAK SPACE}epic (1.4\N{NO-BREAK SPACE}×), "
    )
    assert "6\N{NO-BREAK SPACE}dp-sgd (4.4\N{NO-BREAK SPACE}×)" in figure.caption
    assert "Small squares are controls." in figure.caption
    assert "A larger mark takes more time" in figure.caption
    assert "epic: " in figure.svg.split('aria-label="')[1].split('"')[0]


def test_a_defense_that_was_not_run_has_no_mark(found: list[Cell]):
    cell = next(each for each in found if each.attack == "feature-collisions")
    figure = tradeoff(same_attack(found, cell))
    assert figure is not None
    assert "dp-sgd" not in figure.caption


def test_one_defense_alone_is_no_trade(found: list[Cell]):
    assert tradeoff([found[0]]) is None


def test_there_is_a_figure_for_every_other_attack_and_scenario(found: list[Cell]):
    figures = others(found, found[0])
    weak = next(each.scenario for each in found if each.scenario != found[0].scenario)
    assert [figure.title for figure in figures] == [*list(ATTACKS)[1:], *(f"{attack}, {weak}" for attack in ATTACKS)]
    ids = [name for figure in figures for name in re.findall(r'\bid="([^"]*)"', figure.svg)]
    assert len(ids) == len(set(ids))


def test_the_area_of_a_mark_grows_with_cost_up_to_a_bound():
    def width(times: float) -> float:
        ends = {"accuracies": (0.8, 0.8), "successes": (0.5, 0.5)}
        dot = Dot(number=1, accuracy=0.8, success=0.5, kind="defense", times=times, **ends)
        path = str(trade("a", [dot], label="")).split('id="a-m')[-1].split(' d="')[1].split('"')[0]
        places = [float(x) for x in re.findall(r"[MLC]\s*(-?[\d.]+)", path)]
        return max(places) - min(places)

    assert width(4) / width(1) == pytest.approx(2, rel=0.1)
    assert width(50) == width(9) > width(4)


def test_attacks_that_degrade_trade_errors(tmp_path: Path):
    from tests.report.fabricate_degrade import Made, fabricate_table

    made = Made(defenses={"none": 1.0, "slab": 0.5}, budgets=(0.1,))
    cells = combinations.cells(read(fabricate_table(tmp_path, made)))
    figure = tradeoff(same_attack(cells, cells[0]), "Error")
    assert figure is not None
    assert "left costs less without poison" in figure.caption
    assert "error under poison, %" in figure.svg
