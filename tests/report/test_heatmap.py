"""Promises of the heat map: the numbers of the store, no zero for what was not run, no credit without a landing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mithridate.report import combinations
from mithridate.report.entries import Board, Entry, boards, is_grid
from mithridate.report.fates import fates
from mithridate.report.heatmap import Heatmap, Place, heatmaps
from mithridate.report.load import Run, read
from mithridate.stats import Estimate
from tests.report.fabricate import scenario
from tests.report.fabricate_defenses import EPIC, NONE, Made
from tests.report.fabricate_grid import ALL, ATTACKS, VICTIM, Grid, fabricate_grid

BASE, WEAK = scenario(32 / 255, 0.04), scenario(16 / 255, 0.04)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read(fabricate_grid(tmp_path_factory.mktemp("grid"), Grid(trials=12)))


@pytest.fixture(scope="module")
def found(run: Run) -> list[Board]:
    every = combinations.cells(run)
    return boards(run, every, combinations.chosen(every), fates(run).failed)


@pytest.fixture(scope="module")
def first(found: list[Board]) -> Heatmap:
    shown = heatmaps(found)
    assert shown is not None
    return shown.maps[0]


def place(shown: Heatmap, attack: str, defense: str) -> Place:
    column = [each.defense for each in shown.columns].index(defense)
    return next(row.places[column] for row in shown.rows if row.attack == attack)


def test_has_a_line_for_each_attack_and_a_column_for_each_defense_no_defense_first(first: Heatmap):
    assert [row.attack for row in first.rows] == list(ATTACKS)
    assert {each.defense for each in first.columns} == {each.name for each in ALL}
    assert first.columns[0].defense == "none"
    assert [each.name for each in first.columns][1:4] == ["epic", "random-drop", "top-loss-drop"]


def test_shows_the_rates_of_the_store_with_intervals(run: Run, first: Heatmap):
    for attack, defense in (("gradient-matching", "none"), ("bullseye-polytope", "deep-knn")):
        own = [v for v in run.victims if (v.attack, v.scenario, v.defense) == (attack, BASE, defense)]
        hits = [v.success for v in own if v.control == "attack"]
        shown = place(first, attack, defense)
        assert shown.text == f"{100 * sum(hits) / len(hits):.0f}\N{NO-BREAK SPACE}%"
        low, high = map(int, shown.interval.split("–"))
        assert low <= 100 * sum(hits) / len(hits) <= high
        assert f"12 trials, {len(hits)} networks" in shown.title


def test_colour_grows_with_success_and_never_hides_the_number(first: Heatmap):
    shades = {place.text: place.shade for row in first.rows for place in row.places if place.kind == "run"}
    rates = {float(text.split("\N{NO-BREAK SPACE}")[0]): shade for text, shade in shades.items()}
    assert [shade for _, shade in sorted(rates.items())] == sorted(rates.values())
    assert rates[0] == 0
    assert max(rates.values()) <= 46


def test_what_was_not_run_and_what_failed_is_no_zero(found: list[Board], first: Heatmap):
    shown = heatmaps(found)
    assert shown is not None
    failed, absent = place(first, "feature-collisions", "dp-sgd"), place(shown.maps[1], "feature-collisions", "dp-sgd")
    assert (failed.kind, failed.text) == ("failed", "failed")
    assert (absent.kind, absent.text) == ("absent", "not run")
    assert failed.interval == absent.interval == ""
    assert (shown.failed, shown.absent) == (True, True)


def test_another_number_of_trials_is_said_in_the_place(first: Heatmap):
    assert place(first, "feature-collisions", "deep-knn").notes == ("3 trials",)
    assert place(first, "feature-collisions", "epic").notes == ()
    assert first.sample == "12 trials, 24 networks"


def test_no_defense_is_credited_where_the_attack_did_not_land(first: Heatmap):
    lines = {row.attack: row for row in first.rows}
    assert lines["gradient-matching"].standing == ""
    assert "no credit" in lines["random-noise"].standing
    for row in first.rows:
        landed = row.standing == ""
        for column, each in zip(first.columns, row.places, strict=True):
            assert landed or not each.credited
            assert each.credit == (landed or each.kind != "run" or column.defense == "none")
    assert place(first, "gradient-matching", "epic").credited
    assert not place(first, "random-noise", "epic").credited


def test_an_oracle_is_stamped_and_earns_no_credit(first: Heatmap):
    for defense in ("spectral-signatures (oracle)", "oracle-filter"):
        shown = place(first, "gradient-matching", defense)
        assert shown.oracle
        assert "oracle" in shown.title
        assert not shown.credited


def test_an_oracle_earns_no_credit_however_clearly_lower_its_number_is(found: list[Board]):
    line = next(line for line in found[0].lines if line.standing == "landed")

    def credited(entry: Entry) -> bool:
        shown = heatmaps([replace(found[0], lines=(replace(line, entries=(entry,) * len(line.entries)),))])
        assert shown is not None
        return shown.credited

    for worth in ("beyond", "lower"):
        entry = replace(line.entries[1], worth=worth, oracle=False)
        assert credited(entry)
        assert not credited(replace(entry, oracle=True))


def test_an_attack_that_is_an_oracle_stamps_its_own_numbers_and_no_others(tmp_path: Path):
    grid = Grid(trials=2, runs=1, holes=False, scenarios=((0.1, 0.04),), oracle_attack="bullseye-polytope")
    told = read(fabricate_grid(tmp_path, grid))
    shown = heatmaps(boards(told, combinations.cells(told), None))
    assert shown is not None
    stamped = {
        (row.attack, c.defense)
        for row in shown.maps[0].rows
        for p, c in zip(row.places, shown.maps[0].columns, strict=True)
        if p.oracle
    }
    oracles = {"spectral-signatures (oracle)", "oracle-filter"}
    defenses = {each.name for each in ALL}
    assert stamped == {(a, d) for a in ATTACKS for d in defenses if a == "bullseye-polytope" or d in oracles}
    assert {column.defense for column in shown.maps[0].columns if column.oracle} == oracles


def test_the_scenario_of_the_verdict_is_first(found: list[Board]):
    assert [board.scenario for board in found] == [BASE, WEAK]


def test_a_large_grid_is_cut_and_says_so(found: list[Board]):
    entry = found[0].lines[0].entries[0]
    board = replace(found[0], lines=tuple(replace(found[0].lines[0], attack=str(k)) for k in range(60)))
    many = heatmaps([replace(board, victim=str(k)) for k in range(9)])
    assert many is not None
    assert len(many.maps) == 2
    assert many.left_out == 7
    columns = tuple(replace(board.columns[0], defense=str(k), name=str(k)) for k in range(70))
    lines = tuple(replace(line, entries=(entry,) * 70) for line in board.lines)
    wide = heatmaps([replace(board, columns=columns, lines=lines)])
    assert wide is not None
    assert wide.maps[0].left_out == 22
    assert all(len(row.places) == 48 for row in wide.maps[0].rows)


def test_simple_runs_are_no_grids(tmp_path: Path):
    def is_one(made: tuple[Made, ...], attacks: dict[str, float]) -> bool:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        return is_grid(combinations.cells(read(fabricate_grid(folder, Grid(made=made, attacks=attacks, **few)))))

    few = {"trials": 1, "runs": 1, "holes": False, "scenarios": ((0.1, 0.04),)}
    other, control = Made(name="jpeg", success=0.3), Made(name="control", success=0.3, control_of=("epic",))
    assert not is_one((NONE,), {"a": 1.0})
    assert not is_one((NONE, EPIC, control), {"a": 1.0})
    assert is_one((NONE,), {"a": 1.0, "b": 1.0})
    assert is_one((NONE, EPIC, other), {"a": 1.0})


def test_partly_failed_places_say_how_many(found: list[Board]):
    line = found[0].lines[0]
    entry: Entry = replace(line.entries[0], failed=2)
    shown = heatmaps([replace(found[0], lines=(replace(line, entries=(entry, *line.entries[1:])),))])
    assert shown is not None
    assert shown.maps[0].rows[0].places[0].notes == ("2 failed",)
    assert "2 of its jobs failed" in shown.maps[0].rows[0].places[0].title


def test_nothing_judged_is_no_map(found: list[Board]):
    lines = tuple(
        replace(line, entries=tuple(replace(e, success=None) for e in line.entries)) for line in found[0].lines
    )
    assert heatmaps([replace(found[0], lines=lines)]) is None
    assert isinstance(found[0].lines[0].entries[0].success, Estimate)
    assert found[0].victim == VICTIM
