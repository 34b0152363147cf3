"""Promises of the table in the terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from mithridate.cli.results import results_table
from mithridate.report import tables
from mithridate.report.load import read
from mithridate.store import Store
from tests.report.fabricate import fabricate
from tests.report.fabricate_defenses import EPIC, NONE, Made, controls, fabricate_defenses
from tests.report.fabricate_polytopes import SOURCE, fabricate_polytopes

ORACLE = Made(name="oracle-filter", success=0.0, rounds=((0, 160, 160),), control_of=("epic", "knn"), oracle=True)


def printed(folder: Path, width: int = 120) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(results_table(tables.summary(read(folder))["rows"], title="a run"))
    return file.getvalue()


@pytest.fixture
def defended(tmp_path: Path) -> Path:
    return fabricate_defenses(tmp_path, [NONE, EPIC, *controls(EPIC), ORACLE])


def test_without_defenses_the_controls_of_the_attack_have_columns(tmp_path: Path):
    found = printed(fabricate(tmp_path, trials=2, runs=1))
    assert "noise control" in found
    assert "2 x 1" in found
    assert "dropped" not in found


def test_defenses_stand_with_their_controls_and_numbers(defended: Path):
    lines = [" ".join(line.split()) for line in printed(defended).splitlines()]
    places = [next(k for k, line in enumerate(lines) if line.startswith(f"{name} ")) for name in ("none", "epic")]
    own = [
        next(k for k, line in enumerate(lines) if line.startswith(f"└─{name} ")) for name in ("random-drop", "top")[:1]
    ]
    assert places[0] < places[1] < own[0]
    epic = lines[places[1]]
    assert epic.startswith("epic 5% [1-34%]")
    assert "360 64% 6.7%" in epic
    assert epic.endswith("(1.4x)")
    assert any(line.startswith("└─oracle-filter (oracle) (of 2)") for line in lines)


def test_what_a_defense_is_worth_stands_below(defended: Path):
    assert "clearly below both controls" in " ".join(printed(defended).split())


def test_several_attacks_have_a_line_each_and_so_has_what_defenses_are_worth_against_them(defended: Path):
    rows = tables.summary(read(defended))["rows"]
    file = io.StringIO()
    both = [*rows, *({**row, "attack": "bullseye-polytope"} for row in rows)]
    Console(file=file, width=80).print(results_table(both, title="a run"))
    lines = [line.strip() for line in file.getvalue().splitlines()]
    assert lines.count("bullseye-polytope") == lines.count(str(rows[0]["attack"])) == 2
    table, said = (k for k, line in enumerate(lines) if line == "bullseye-polytope")
    assert lines[table + 1].startswith("none ")
    assert lines[said + 1].startswith("epic: Success")
    for each in ("360", "64%", "6.7%", "[1-34%]", "(1.4x)", "100%"):
        assert each in file.getvalue()


def test_no_number_is_cut_on_a_narrow_terminal(defended: Path):
    found = printed(defended, width=80)
    for each in ("360", "64%", "6.7%", "[1-34%]", "(1.4x)", "100%"):
        assert each in found
    assert "…" not in found


def test_published_numbers_stand_beside_ours_with_their_sources(tmp_path: Path):
    folder = fabricate_polytopes(tmp_path, trials=8)
    for width in (80, 120):
        found = printed(folder, width)
        assert "published" in found
        assert "95%" in found
        assert "n=100" in found
        assert f"[1] published: {SOURCE}" in found
        assert "…" not in found


def test_rates_outside_our_interval_are_said(tmp_path: Path):
    folder = fabricate_polytopes(tmp_path, trials=4)
    with Store(folder) as store:
        store.describe(published=[{**store.meta()["published"][0], "rate": 0.05}])
    assert "ours above" in printed(folder)


def test_knowledge_stands_in_the_head_where_shared_and_else_with_the_victim(tmp_path: Path):
    rows = tables.summary(read(fabricate_polytopes(tmp_path, trials=1)))["rows"]
    mixed, shared = Console(file=io.StringIO(), width=160), Console(file=io.StringIO(), width=160)
    mixed.print(results_table(rows, title=""))
    shared.print(results_table([each | {"box": "white-box"} for each in rows], title=""))
    texts = [console.file.getvalue() for console in (mixed, shared)]  # type: ignore[attr-defined]
    assert "resnet18, transfer (white-box)" in texts[0]
    assert "vgg11, transfer (black-box)" in texts[0]
    assert "knowledge:" not in texts[0]
    assert "  knowledge: white-box (one or more of the attacker's networks start" in texts[1]
    assert texts[1].count("white-box") == 1


def test_what_was_not_recorded_is_not_shown(tmp_path: Path):
    found = printed(fabricate(tmp_path, trials=1, runs=1))
    assert "knowledge" not in found
    assert "published" not in found
