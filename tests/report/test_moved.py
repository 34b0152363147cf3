"""Promises of the poison rows beside their origins: what moved, how far, in which units."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mithridate.report.columns import features
from mithridate.report.combinations import cells
from mithridate.report.damage import chosen
from mithridate.report.load import read
from mithridate.report.moved import Moved, moved
from mithridate.store import Store
from tests.report.fabricate_degrade import (
    FIRST_APPENDED,
    Made,
    add_craft,
    add_victim,
    columns,
    fabricate_digits,
    fabricate_table,
    settings,
)

SPACE = {"shape": [8], "num_classes": 2, "bounds": [0, 99999], "levels": None}


def of(folder: Path) -> list[Moved]:
    run = read(folder)
    found = cells(run)
    cell = chosen(run, found)
    assert cell is not None
    return moved(run, found, cell)


def by_hand(folder: Path, origins: list[list[float]], rows: list[list[float]], **changes: Any) -> Moved:
    """One poison set of these rows; age, three classes of work, gain, hours, married, sex."""
    count = len(rows)
    tensors = {
        "inputs": np.asarray(rows, dtype=np.float32),
        "labels": np.ones(count, dtype=np.int64),
        "ids": np.arange(count) + FIRST_APPENDED,
        "base": np.asarray(origins, dtype=np.float32),
        "base_labels": np.zeros(count, dtype=np.int64),
        "base_ids": np.arange(count) + 70,
        "space": SPACE | {"columns": columns()},
    }
    kept = {name: each for name, each in (tensors | changes).items() if each is not None}
    with Store(folder, create=True) as store:
        store.describe(experiment=settings(kind="generic"), classes=["ham", "spam"])
        add_craft(store, "back-gradient", 0.1, 0, kept)
        add_victim(store, "back-gradient")
    return of(folder)[0]


BASE = [30, 1, 0, 0, 500, 40, 0, 1]
CHANGED = [31, 0, 1, 0, 60499, 20.4, 0, 1]


def test_features_are_told_farthest_first_in_natural_units(tmp_path: Path):
    """By hand: work changed (1), gain by 59999 of 99999 (0.6), hours by -19.6 of 98 (-0.2), age by 1 of 73."""
    (row,) = by_hand(tmp_path, [BASE], [CHANGED]).shown
    assert [(each.name, each.old, each.new) for each in row.changes] == [
        ("workclass", "Private", "Never-worked"),
        ("capital-gain", "500", "60499"),
        ("hours-per-week", "40", "20.4"),
        ("age", "30", "31"),
    ]
    assert [each.share for each in row.changes] == pytest.approx([1, 59999 / 99999, -19.6 / 98, 1 / 73], rel=1e-5)
    assert (row.title, row.old, row.new) == ("Poison row 1, from row 70", "“ham”", "“spam”")


def test_the_list_is_over_all_rows(tmp_path: Path):
    """Two rows: one as above, the other still. Work moved by 1/2 on average, in half of the rows."""
    found = by_hand(tmp_path, [BASE, BASE], [CHANGED, BASE])
    bars = {bar.name: bar for bar in found.bars}
    assert list(bars) == ["workclass", "capital-gain", "hours-per-week", "age"]
    assert (bars["workclass"].share, bars["workclass"].rows) == (0.5, 0.5)
    assert bars["hours-per-week"].share == pytest.approx(0.1)
    assert [bar.trend for bar in found.bars] == ["", "up", "down", "up"]


def test_a_list_over_several_poison_sets_reads_them_all(tmp_path: Path):
    found = of(fabricate_table(tmp_path, Made(trials=3)))[0]
    assert found.sets == 3
    assert found.rows == 40
    assert len(found.shown) == 6


def test_label_flips_move_nothing(tmp_path: Path):
    found = by_hand(tmp_path, [BASE], [BASE])
    assert found.bars == ()
    assert found.shown[0].changes == ()
    assert (found.shown[0].old, found.shown[0].new) == ("“ham”", "“spam”")


def test_a_replaced_row_is_named_as_what_it_is(tmp_path: Path):
    found = by_hand(tmp_path, [BASE], [CHANGED], ids=np.asarray([12]), base_ids=None)
    assert found.shown[0].title == "Training row 12"


def test_a_row_of_unknown_origin_has_none(tmp_path: Path):
    assert by_hand(tmp_path, [BASE], [CHANGED], base_ids=None).shown[0].title == "Poison row 1"


@pytest.mark.parametrize("named", [[], columns()[:3]])
def test_columns_without_names_have_numbers(tmp_path: Path, named: list[dict[str, Any]]):
    space = {"shape": [2], "num_classes": 2, "bounds": [0, 10], "levels": None, "columns": named}
    (row,) = by_hand(tmp_path, [[1.0, 2.0]], [[1.0, 4.5]], space=space).shown
    assert [(each.name, each.old, each.new, each.share) for each in row.changes] == [("column 1", "2", "4.5", 0.25)]


def test_more_changes_than_have_room_are_counted(tmp_path: Path):
    space = {"shape": [12], "num_classes": 2, "bounds": [0, 1], "levels": None, "columns": []}
    found = by_hand(tmp_path, [[0.0] * 12], [[0.5] * 12], space=space)
    assert (len(found.shown[0].changes), found.shown[0].more, len(found.bars)) == (7, 5, 12)


def test_images_are_pairs_of_pictures(tmp_path: Path):
    found = of(fabricate_digits(tmp_path))
    assert [each.attack for each in found] == ["back-gradient", "random-flips"]
    assert len(found[0].shown) == 12
    assert all(row.origin and row.poison and not row.changes for row in found[0].shown)
    assert found[0].shown[0].origin != found[0].shown[0].poison
    assert found[1].shown[0].origin
    assert found[1].shown[0].origin.uri == found[1].shown[0].poison.uri  # type: ignore[union-attr]
    assert (found[0].mean is not None, found[1].mean is not None) == (True, False)


def test_without_origins_rows_are_told_by_what_they_hold(tmp_path: Path):
    """By hand: gain 60499 of 99999, work, hours (20.4 - 1) of 98, age (31 - 17) of 73, sex at its greatest value."""
    found = by_hand(tmp_path, [BASE], [CHANGED], base=None, base_labels=None, base_ids=None)
    assert not found.compared
    assert found.reason == ""
    (row,) = found.shown
    assert [(each.name, each.old, each.new) for each in row.changes] == [
        ("sex", "", "1"),
        ("capital-gain", "", "60499"),
        ("workclass", "", "Never-worked"),
        ("hours-per-week", "", "20.4"),
        ("age", "", "31"),
    ]
    assert (row.old, row.new) == ("", "“spam”")
    assert found.bars[0].name == "sex"


def test_pictures_without_origins_stand_alone(tmp_path: Path):
    fabricate_digits(tmp_path)
    for path in (tmp_path / "poisons").rglob("*.safetensors"):
        tensors = load_file(path)
        save_file({name: each for name, each in tensors.items() if not name.startswith("base")}, path)
    found = of(tmp_path)[0]
    assert all(row.poison and not row.origin for row in found.shown)
    assert found.mean is None


def test_a_lost_poison_set_is_said(tmp_path: Path):
    fabricate_table(tmp_path)
    for path in (tmp_path / "poisons").rglob("*.safetensors"):
        path.unlink()
    assert {each.reason for each in of(tmp_path)} == {"The poison set is not in the run folder, or cannot be read."}


def test_a_set_of_no_rows_is_said(tmp_path: Path):
    empty = np.zeros((0, 8), dtype=np.float32)
    assert by_hand(tmp_path, [BASE], [BASE], inputs=empty, base=empty).reason == "No row was poisoned."


@pytest.mark.parametrize("text", ["", "[]", '{"space": 3}', '{"space": {"columns": 7, "bounds": ["a"]}}'])
def test_a_damaged_manifest_leaves_numbers_for_names(tmp_path: Path, text: str):
    (tmp_path / "manifest.json").write_text(text)
    found = features(tmp_path, 2)
    assert [(each.name, each.low, each.high) for each in found] == [("column 0", 0, 1), ("column 1", 0, 1)]


def test_values_are_written_as_people_write_them(tmp_path: Path):
    listed = [{"name": k, "kind": k, "low": 0, "high": 1e6} for k in ("real", "integer", "binary")]
    (tmp_path / "manifest.json").write_text(json.dumps({"space": {"columns": listed}}))
    real, integer, binary = features(tmp_path, 3)
    row = np.asarray([0.123456, 123456.0, 1.0])
    assert [each.value(row) for each in (real, integer, binary)] == ["0.1235", "123456", "1"]
    assert real.value(np.asarray([123456.789])) == "123457"
