"""Promises of the published numbers: all of them are shown, ours beside, and on which side ours lies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mithridate.report import combinations
from mithridate.report.load import Run, read
from mithridate.report.origins import Published
from mithridate.report.publications import publications
from tests.report.fabricate_grid import SOURCE, VICTIM, Grid, fabricate_grid


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read(fabricate_grid(tmp_path_factory.mktemp("published"), Grid(trials=12, holes=False)))


def published(rate: float, attack: str = "gradient-matching", source: str = SOURCE) -> Published:
    return Published(attack=attack, victim=VICTIM, rate=rate, trials=8, source=source)


def test_ours_lies_below_above_or_agrees(run: Run):
    told = replace(run, published=(published(0.99), published(0.01), published(0.75)))
    lines = publications(told, combinations.cells(told))
    assert [line.ours for line in lines] == ["below", "above", "agrees"]
    assert all(line.estimate and line.estimate.trials == 12 for line in lines)


def test_a_number_that_nothing_of_ours_answers_is_not_run(run: Run):
    told = replace(run, published=(published(0.5, attack="elsewhere"), published(0.5, source="second")))
    lines = publications(told, combinations.cells(told))
    assert [(line.ours, line.estimate is None, line.note) for line in lines] == [
        ("not run", True, 1),
        ("agrees", False, 2),
    ]


def test_two_numbers_for_one_attack_are_told_apart(run: Run):
    told = replace(run, published=(published(0.99), published(0.7)))
    assert [(line.rate, line.ours) for line in publications(told, combinations.cells(told))] == [
        (0.99, "below"),
        (0.7, "agrees"),
    ]


def test_ours_is_the_undefended_base_scenario(run: Run):
    (line, _) = publications(run, combinations.cells(run))
    own = [v.success for v in run.victims if v.control == "attack" and v.attack == "gradient-matching"]
    base = run.crafts[0].scenario
    plain = [
        v.success
        for v in run.victims
        if (v.control, v.attack, v.scenario, v.defense) == ("attack", line.attack, base, "none")
    ]
    assert line.estimate is not None
    assert line.estimate.mean == pytest.approx(sum(plain) / len(plain))
    assert len(plain) < len(own)


def test_without_published_numbers_there_is_nothing(tmp_path: Path):
    run = read(fabricate_grid(tmp_path, Grid(trials=1, holes=False, published=False)))
    assert publications(run, combinations.cells(run)) == []
