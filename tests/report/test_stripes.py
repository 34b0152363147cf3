"""Promises of the stripes: one square a trial, in the same column for every defense."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from mithridate.report import combinations
from mithridate.report.entries import Board, boards
from mithridate.report.load import Run, read
from mithridate.report.stripes import AllStripes, all_stripes, level_of, squares
from tests.report.fabricate_grid import Grid, fabricate_grid


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read(fabricate_grid(tmp_path_factory.mktemp("stripes"), Grid(trials=6)))


@pytest.fixture(scope="module")
def found(run: Run) -> list[Board]:
    every = combinations.cells(run)
    return boards(run, every, combinations.chosen(every))


@pytest.fixture(scope="module")
def shown(found: list[Board]) -> AllStripes:
    stripes = all_stripes(found)
    assert stripes is not None
    return stripes


def filled(svg: str) -> list[int]:
    """The columns with a fill."""
    paths = re.findall(r'<path class="hit[^"]*" d="([^"]*)"', svg)
    return sorted((int(x) - 1) // 14 for path in paths for x in re.findall(r"M(\d+) ", path))


def test_squares_stand_in_the_columns_of_their_trials():
    svg = str(squares({3: 1.0, 5: 0.5, 9: 0.0}, [3, 4, 5, 9], label='a "b"'))
    assert filled(svg) == [0, 2]
    assert svg.count("h12v12") == 3 + 2  # frames of the judged, fills of the hit
    assert 'class="absent" d="M19 6h4"' in svg
    assert "a &#34;b&#34;" in svg


def test_shades_tell_none_some_most_and_all():
    assert [level_of(share) for share in (0, 0.01, 0.49, 0.5, 0.99, 1)] == [0, 1, 1, 2, 2, 3]


def test_every_stripe_is_that_of_the_store(run: Run, shown: AllStripes):
    board = shown.boards[0]
    stripe = next(s for s in board.attacks[0].stripes if s.name == "no defense")
    own = [
        v for v in run.victims if v.control == "attack" and v.attack == board.attacks[0].name and v.defense == "none"
    ]
    hit = sorted({v.trial for v in own if v.success and f"{v.scenario}, {v.victim}" == board.name})
    assert filled(str(stripe.svg)) == hit
    assert stripe.hit == f"{len(hit)} of 6"
    assert f"hit in {len(hit)} of 6 trials: {', '.join(map(str, hit))}" in stripe.svg


def test_a_trial_that_was_not_judged_is_a_gap_and_not_counted(shown: AllStripes):
    attack = next(each for each in shown.boards[0].attacks if each.name == "feature-collisions")
    stripe = next(each for each in attack.stripes if each.name == "deep-knn")
    assert stripe.svg.count("M") - len(filled(str(stripe.svg))) == 6
    assert stripe.hit.endswith(" of 3")
    assert shown.gaps
    assert "dp-sgd" not in [each.name for each in attack.stripes]  # it was not run


def test_many_trials_are_cut_and_counted(found: list[Board]):
    trials = tuple(range(130))
    entry = replace(found[0].lines[0].entries[0], by_trial=dict.fromkeys(trials, 1.0))
    line = replace(found[0].lines[0], entries=(entry,) * len(found[0].columns))
    many = all_stripes([replace(found[0], lines=(line,) * 40, trials=trials, victim=str(k)) for k in range(3)])
    assert many is not None
    assert many.trials_left_out == 30
    assert many.left_out == 2
    assert sum(str(s.svg).count("h12v12") for b in many.boards for a in b.attacks for s in a.stripes) <= 2 * 24_000
    assert many.boards[0].attacks[0].stripes[0].hit == "130 of 130"
    assert many.boards[0].left_out == 40 - 24_000 // (100 * len(found[0].columns))


def test_one_trial_needs_no_stripes(tmp_path: Path):
    run = read(fabricate_grid(tmp_path, Grid(trials=1, holes=False, scenarios=((0.1, 0.04),))))
    assert all_stripes(boards(run, combinations.cells(run), None)) is None
