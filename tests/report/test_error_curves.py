"""Promises of the figures of error against the amount of poison."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mithridate.report.combinations import Cell, cells
from mithridate.report.damage import chosen
from mithridate.report.error_curves import Curves, error_curves
from mithridate.report.error_drawings import spread
from mithridate.report.load import Run, read
from tests.report.fabricate_degrade import Made, fabricate_digits, fabricate_table

DEFENSES = {"none": 1.0, "label-sanitisation": 0.3, "slab": 0.6}


def drawn(run: Run) -> Curves:
    found = cells(run)
    cell = chosen(run, found)
    assert isinstance(cell, Cell)
    assert run.degradation is not None
    curves = error_curves(found, cell, run.degradation)
    assert curves is not None
    return curves


def spoken(svg: str) -> str:
    label = re.search(r'aria-label="([^"]*)"', svg)
    assert label is not None
    return label[1].replace("\N{NO-BREAK SPACE}", " ")


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory) -> Curves:
    made = Made(
        budgets=(0.1, 0.02, 0.05), victims={"logistic-regression": 0.07, "mlp-10": 0.06}, defenses=DEFENSES, spread=0.0
    )
    return drawn(read(fabricate_table(tmp_path_factory.mktemp("curves"), made)))


def test_every_victim_has_its_attacks_and_its_defenses(curves: Curves):
    assert [figure.title for figure in curves.figures] == [
        "logistic-regression: what the attacks do",
        "logistic-regression: what defenses leave of back-gradient",
        "mlp-10: what the attacks do",
        "mlp-10: what defenses leave of back-gradient",
    ]


def test_lines_begin_at_clean_data_and_rise_with_the_budget(curves: Curves):
    said = spoken(curves.figures[0].svg)
    assert "back-gradient: 7.0 % at 0 %, 11 % at 2 %, 17 % at 5 %, 27 % at 10 %" in said
    assert "random-flips: 7.0 % at 0 %, 8.0 % at 2 %, 9.5 % at 5 %, 12 % at 10 %" in said


def test_a_defended_line_begins_at_clean_victims_with_the_defense(curves: Curves):
    said = spoken(curves.figures[1].svg)
    assert "no defense: 7.0 % at 0 %" in said
    assert "label-sanitisation: 7.4 % at 0 %, 8.6 % at 2 %, 10 % at 5 %, 13 % at 10 %" in said
    assert "random-flips" not in said


def test_every_line_is_named_beside_it(curves: Curves):
    for name in ("no defense", "label-sanitisation", "slab"):
        assert f">{name}</text>" in curves.figures[1].svg


def test_small_multiples_have_one_height(curves: Curves):
    ticks = [re.findall(r">(\d+)</text>", figure.svg) for figure in curves.figures]
    assert len({tuple(each) for each in ticks}) == 1


def test_shares_of_all_rows_are_said(curves: Curves):
    assert curves.shares == "2, 5 and 10 % of the clean rows are 1.96, 4.76 and 9.09 % of what is trained on"


def test_an_error_specific_figure_names_its_confusion(tmp_path: Path):
    figure = drawn(read(fabricate_digits(tmp_path))).figures[0]
    assert spoken(figure.svg).startswith("Line chart of the share of “8” called “3” over the poison")
    assert "“8” called “3”, %" in figure.svg


def test_without_clean_victims_lines_begin_at_the_first_budget(tmp_path: Path):
    said = spoken(drawn(read(fabricate_table(tmp_path, Made(clean=False, spread=0.0)))).figures[0].svg)
    assert "back-gradient: 27 % at 10 %" in said
    assert "at 0 %" not in said


@pytest.mark.parametrize("seed", range(20))
def test_names_keep_their_order_and_their_distance(seed: int):
    draws = np.random.default_rng(seed)
    places = draws.uniform(5, 60, draws.integers(1, 8)).tolist()
    found = spread(places, 10.0, 5.0)
    assert [b for _, b in sorted(zip(places, found, strict=True))] == sorted(found)
    assert all(b - a >= 10 - 1e-6 for a, b in pairwise(sorted(found)))
    assert min(found) >= 5.0 - 1e-6


def test_names_with_room_stay_where_they_are():
    assert spread([50.0, 10.0, 30.0], 10.0, 0.0) == [50.0, 10.0, 30.0]


def test_two_names_on_one_place_move_apart_evenly():
    assert spread([40.0, 40.0], 10.0, 0.0) == [45.0, 35.0]
