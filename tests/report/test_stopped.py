"""A run that stopped on purpose: one interval for one number wherever it stands, and not called unfinished."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mithridate.firstnumbers import first_numbers
from mithridate.report import compared, leaderboard_page, page
from mithridate.report.combinations import cells, planned, success
from mithridate.report.comparing import compare
from mithridate.report.leaderboard import leaderboard
from mithridate.report.load import read
from mithridate.report.tables import summary
from mithridate.report.tabular import flat
from mithridate.report.typeset import as_latex, as_markdown
from mithridate.report.verdict import standing, verdict
from mithridate.report.words import interval
from mithridate.sequential import confidence_sequence
from mithridate.store import Store
from tests.cli.test_results import printed
from tests.report.fabricate import CLASSES, add_craft, add_victim, experiment
from tests.report.fabricate_degrade import Made, fabricate_table

TRIALS = 10
HITS = range(7)
"""Trials hit of those: seven of ten, and none on clean data."""
NOTED = {"sequential": {"width": 0.7, "trials": TRIALS, "most": 20, "reached": True}}


def made(folder: Path, **described: Any) -> Path:
    with Store(folder, create=True) as store:
        store.describe(classes=list(CLASSES), experiment=experiment(trials=20, runs=1), jobs=61, **described)
        for trial in range(TRIALS):
            add_craft(store, trial)
            add_victim(store, "attack", trial, hit=trial in HITS)
            add_victim(store, "clean", trial, hit=False)
    return folder


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    return made(tmp_path / "stopped", **NOTED)


def test_one_interval_stands_wherever_the_number_stands(stopped: Path) -> None:
    expected = confidence_sequence([float(trial in HITS) for trial in range(TRIALS)])
    bounds = (expected.low, expected.high)
    run = read(stopped)
    (cell,) = cells(run)
    estimate, said, (row,) = success(cell.poisoned), verdict(run), summary(run)["rows"]
    assert estimate is not None
    assert said is not None
    assert (estimate.low, estimate.high) == bounds
    assert (said.counts[0].estimate.low, said.counts[0].estimate.high) == bounds
    assert any(interval(estimate) in each for each in said.details)
    assert (row["success"]["low"], row["success"]["high"], row["interval"]) == (*bounds, "sequential")
    plain = flat(row)
    assert (plain["success_low"], plain["success_high"], plain["interval"]) == (*bounds, "sequential")
    (first,) = first_numbers(stopped)
    assert (first.low, first.high, first.interval) == (*bounds, "sequential")
    html = page.html(run)
    assert "Wilson" not in html
    assert "40–89" not in html  # Wilson's


def test_the_terminal_and_the_page_say_that_the_intervals_are_sequential(stopped: Path) -> None:
    run = read(stopped)
    assert "intervals: sequential" in printed(stopped)
    rows = summary(run)["rows"]
    assert "success (%, sequential)" in as_markdown(rows)
    assert r"success (\%, sequential)" in as_latex(rows)
    assert "holds however often one looks" in page.html(run)


def test_an_ordinary_run_keeps_its_interval(tmp_path: Path) -> None:
    run = read(made(tmp_path))
    (row,) = summary(run)["rows"]
    assert (row["interval"], row["sequential"]) == (None, None)
    assert 100 * row["success"]["low"] == pytest.approx(39.68, abs=0.01)  # Wilson's of 7 of 10
    assert "Wilson" in page.html(run)


def test_landed_needs_the_intervals_that_allow_for_looking_to_be_apart(tmp_path: Path) -> None:
    """Wilson's of 7 of 10 and 0 of 10 are apart (from 40 %, up to 28 %); those that allow for looking are not."""
    (once,), (often,) = (cells(read(made(tmp_path / name, **more))) for name, more in (("a", {}), ("b", NOTED)))
    assert (standing(once), standing(often)) == ("landed", "unclear")


def test_an_error_has_the_interval_too_and_lands_by_it(tmp_path: Path) -> None:
    folder = fabricate_table(tmp_path, Made(attacks={"back-gradient": 0.2}, trials=6))
    cell = next(each for each in cells(read(folder)) if each.poisoned)
    assert standing(cell) == "landed"
    with Store(folder, create=True) as store:
        store.describe(**NOTED)
    cell = next(each for each in cells(read(folder)) if each.poisoned)
    expected = confidence_sequence([victim.success for victim in cell.poisoned])
    found = success(cell.poisoned)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert standing(cell) == "unclear"


def test_it_is_called_stopped_and_not_unfinished(stopped: Path, tmp_path: Path) -> None:
    html, said = page.html(read(stopped)), "Stopped after 10 of 20 trials, because the undefended success was known to"
    assert said[1:] in html
    assert "Not finished" not in html
    assert summary(read(stopped))["stopped"].startswith(said)
    assert planned(read(stopped), cells(read(stopped))[0]) is None
    (beside,) = compare([stopped, made(tmp_path / "plain")])
    lines = compared.head(beside)
    assert any(line.startswith(f"The first run: {said}") for line in lines)
    assert any("was chosen by looking at results" in line for line in lines)
    assert not any("Not done yet" in line and "first" in line for line in lines)


def test_the_leaderboard_has_the_same_interval_and_no_stamp_of_the_unfinished(stopped: Path) -> None:
    board = leaderboard([stopped])
    (place,), (entrant,) = board.groups[0].attacks.places, board.entrants
    expected = confidence_sequence([float(trial in HITS) for trial in range(TRIALS)])
    assert (place.fact.low, place.fact.high) == (expected.low, expected.high)
    assert not place.fact.unfinished
    assert not entrant.jobs
    assert entrant.stopped.startswith("Stopped after 10 of 20 trials")
    html = leaderboard_page.html(board)
    assert ">unfinished<" not in html
    assert "stopped on purpose" in html


def test_one_that_has_not_stopped_yet_is_unfinished(tmp_path: Path) -> None:
    html = page.html(read(made(tmp_path, sequential=NOTED["sequential"] | {"reached": False})))
    assert "Not finished" in html
    assert "topped after" not in html
